"""The data bar that a microscope's texts state: its height, or that of the picture without it.

Written from descriptions: FEI and Thermo Fisher (tags 34680 and 34682), Zeiss SmartSEM (tag 34118), TESCAN (tag 50431 and
`.hdr`), JEOL and Hitachi (`.txt` beside the picture).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from microseg.core.images.folders import readable
from microseg.core.images.scale.sidecars import sidecar_paths, sidecar_text
from microseg.core.images.scale.texts import sections, whole_number
from microseg.core.images.scale.vendor_tags import FEI, TESCAN, ZEISS, tag_text

_SIZE = r"(\d+)\s*[*xX, ]\s*(\d+)"
_ZEISS_SIZE = re.compile(r"^\s*DP_IMAGE_STORE\s*\n[^\n=]*=\s*" + _SIZE, re.MULTILINE)
_JEOL_SIZE = re.compile(r"^\$+CM_FULL_SIZE[ \t=]+" + _SIZE, re.MULTILINE)
_TESCAN_STRIP = re.compile(r"(?<![A-Za-z])ImageStripSize\s*=\s*(\d+)")


@dataclass(frozen=True)
class StatedBar:
    """A data bar at the bottom, as a text states it.

    Attributes:
        rows: its rows.
        source: where it is stated, for reports.
        is_sure: whether the rows of the file say so as well; else its pixels must.
    """

    rows: int
    source: str
    is_sure: bool


def bar_in_tags(tif: tifffile.TiffFile, page: Any) -> StatedBar | None:
    """What the vendors' tags of a page state about its data bar.

    Args:
        tif: the open file.
        page: the page that is measured.
    """
    height, width = int(page.imagelength), int(page.imagewidth)
    # A damaged tag counts as none.
    with contextlib.suppress(Exception):
        return next(_in_tags(tif, page, height, width), None)
    return None


def bar_beside(path: Path, height: int, width: int) -> StatedBar | None:
    """What the texts beside an image state about its data bar.

    Args:
        path: the image.
        height: its rows.
        width: its columns.
    """
    for beside in sidecar_paths(path):
        if text := sidecar_text(beside):
            name = readable(beside.name)
            if beside.suffix.lower() == ".hdr":
                found = _tescan(text, f"{name} of TESCAN")
            else:
                found = _of_picture(_JEOL_SIZE.search(text), f"{name} of JEOL (CM_FULL_SIZE)", height, width)
                size = sections(text).get("semimagefile", {}).get("datasize", "")
                found = found or _of_picture(re.search(_SIZE, size), f"{name} of Hitachi (DataSize)", height, width)
            if found is not None:
                return found
    return None


def _in_tags(tif: tifffile.TiffFile, page: Any, height: int, width: int) -> Iterator[StatedBar]:
    for code in FEI:
        ini = sections(tag_text(tif, page, code))
        image, private = ini.get("image", {}), ini.get("privatefei", {})
        columns, rows = (whole_number(image.get(f"resolution{axis}")) for axis in "xy")
        bar = whole_number(private.get("databarheight"))
        tag = f"FEI tag {code}"
        if columns == width and rows is not None and rows < height:
            key = "PrivateFei.DatabarHeight" if bar == height - rows else "Image.ResolutionY"
            yield StatedBar(height - rows, f"{tag} ({key})", True)
        elif bar is not None and columns in (None, width):
            yield StatedBar(bar, f"{tag} (PrivateFei.DatabarHeight)", False)
    stored = _ZEISS_SIZE.search(tag_text(tif, page, ZEISS).replace("\r", ""))
    if (zeiss := _of_picture(stored, f"Zeiss tag {ZEISS} (Store resolution)", height, width)) is not None:
        yield zeiss
    if (tescan := _tescan(tag_text(tif, page, TESCAN), f"TESCAN tag {TESCAN}")) is not None:
        yield tescan


def _of_picture(size: re.Match[str] | None, source: str, height: int, width: int) -> StatedBar | None:
    """The bar below a picture of this size, where the file is as wide and has more rows."""
    columns, rows = (None, None) if size is None else (whole_number(size[1]), whole_number(size[2]))
    return StatedBar(height - rows, source, True) if columns == width and rows is not None and rows < height else None


def _tescan(text: str, source: str) -> StatedBar | None:
    strip = _TESCAN_STRIP.search(text)
    rows = whole_number(strip[1]) if strip else None
    return None if rows is None else StatedBar(rows, f"{source} (ImageStripSize)", False)
