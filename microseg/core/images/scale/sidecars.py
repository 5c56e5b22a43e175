"""The scale in texts beside an image: JEOL and Hitachi write `NAME.txt`, TESCAN `NAME.hdr` or `NAME-png.hdr`."""

from __future__ import annotations

import re
from pathlib import Path

from microseg.core.images.folders import readable
from microseg.core.images.scale.lengths import length, number
from microseg.core.images.scale.statement import FileScale, Statement
from microseg.core.images.scale.texts import MOST_BYTES, decoded, sections, whole_number
from microseg.core.images.scale.vendor_tags import tescan_statements

_JEOL_LINE = re.compile(r"^\$+([A-Z][A-Z0-9_]*)[ \t=]+(.*)$", re.MULTILINE)
_HITACHI = "semimagefile"


def sidecar_scale(path: Path) -> FileScale:
    """What the texts beside an image state.

    Args:
        path: the image.
    """
    found = FileScale()
    for beside in sidecar_paths(path):
        if text := sidecar_text(beside):
            name = readable(beside.name)
            found += FileScale(tuple(_statements(text, name, is_header=beside.suffix.lower() == ".hdr")))
    return found


def states_scale(path: Path) -> bool:
    """Whether a text states the pixel size of an image beside it."""
    return bool(_statements(sidecar_text(path), "", is_header=path.suffix.lower() == ".hdr"))


def sidecar_paths(path: Path) -> list[Path]:
    """Where the texts beside an image may lie, with their suffix in small or in capital letters.

    Args:
        path: the image.
    """
    kind = path.suffix[1:].lower()
    endings = (".txt", ".hdr", f"-{kind}.hdr", ".TXT", ".HDR", f"-{kind.upper()}.HDR")
    return [path.with_name(path.stem + ending) for ending in endings]


def sidecar_text(path: Path) -> str:
    """The text of a regular file, at most its first 1 MiB; empty where it cannot be read.

    Args:
        path: the file.
    """
    try:
        # A pipe of that name would block the reading.
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            return decoded(stream.read(MOST_BYTES))
    except OSError:
        return ""


def _statements(text: str, name: str, is_header: bool) -> list[Statement]:
    if is_header:
        return tescan_statements(text, f"{name} of TESCAN")
    return _jeol(text, name) + _hitachi(text, name)


def _jeol(text: str, name: str) -> list[Statement]:
    """JEOL: a scale bar of $$SM_MICRON_BAR pixels is $$SM_MICRON_MARKER long in a picture of $CM_FULL_SIZE pixels."""
    entries: dict[str, str] = dict(reversed(_JEOL_LINE.findall(text)))
    bar, marker = number(entries.get("SM_MICRON_BAR", "")), length(entries.get("SM_MICRON_MARKER", ""))
    if bar is None or marker is None or bar[0] <= 0:
        return []
    size = re.findall(r"\d+", entries.get("CM_FULL_SIZE", ""))
    columns = whole_number(size[0]) if size else None
    rounding = bar[1] / bar[0]
    return [Statement(marker.um / bar[0], f"{name} of JEOL (SM_MICRON_MARKER)", None, columns, rounding)]


def _hitachi(text: str, name: str) -> list[Statement]:
    """Hitachi: `PixelSize` in nm of a picture of `DataSize` pixels, in the section [SemImageFile]."""
    entries = sections(text).get(_HITACHI)
    if entries is None or (pixel := length(entries.get("pixelsize", ""), "nm")) is None:
        return []
    size = re.findall(r"\d+", entries.get("datasize", ""))
    columns = whole_number(size[0]) if size else None
    return [Statement(pixel.um, f"{name} of Hitachi (PixelSize)", None, columns)]
