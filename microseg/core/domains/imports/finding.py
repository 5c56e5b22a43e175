"""Label files of a domain: where they lie, which tool wrote them, and the image that each belongs to."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from microseg.core.errors import InputError
from microseg.core.system.files import file_identity
from microseg.core.system.listing import entries_of

if TYPE_CHECKING:
    from microseg.core.domains.imports.shapes import ImageLabels

MASKS = "masks"
# The function `read` of the module with a tool's name reads its files. It is loaded at its first use: `segment`, which pairs
# names with this module, starts sooner without.
TOOLS = ("labelme", "coco", "cvat", "qupath")
# One file for each image, which has its name; the others name their images.
ONE_IMAGE = ("labelme", "qupath")
_SUFFIXES = (".json", ".geojson", ".xml")


@dataclass(frozen=True)
class LabelFiles:
    """The label files of a domain.

    Attributes:
        format: the tool, one of `TOOLS`.
        root: the folder that holds them.
        files: the files.
    """

    format: str
    root: Path
    files: tuple[Path, ...]


def find_label_files(places: Sequence[tuple[Path, Sequence[Path]]], stated: str | None) -> LabelFiles | None:
    """The label files of the first place that holds some.

    Args:
        places: folders, and the files of each that may be label files.
        stated: the tool as the domain.yaml states it; None: found by the content of the first file that is one.
    """
    for root, files in places:
        for path in files:
            found = stated or written_by(path)
            if found is not None:
                return LabelFiles(found, root, tuple(other for other in files if other.suffix == path.suffix))
    return None


def files_in(folder: Path) -> list[Path]:
    """Files of a folder that may hold labels, in order. Folders that cannot be listed hold none."""
    try:
        names = sorted(entry.name for entry in entries_of(folder) if entry.is_file)
    except OSError:
        return []
    return [folder / name for name in names if _may_hold_labels(name)]


def files_below(folder: Path) -> list[Path]:
    """`files_in` with what is below the folder, without reports and hidden folders."""
    found = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if "settings.json" in names and "records" in folders:
            folders.clear()
        else:
            found += files_in(Path(where))
    return found


def _may_hold_labels(name: str) -> bool:
    return name.lower().endswith(_SUFFIXES) and not name.startswith(".") and name != "dataset.json"


def written_by(path: Path) -> str | None:
    """The tool that wrote a file, by its content; None for other files and for what cannot be read.

    Args:
        path: the file.
    """
    from microseg.core.domains.imports.files import read_json, read_xml

    try:
        if path.suffix.lower() == ".xml":
            return "cvat" if read_xml(path).tag == "annotations" else None
        return _json_written_by(read_json(path))
    except InputError:
        return None


def _json_written_by(content: Any) -> str | None:
    from microseg.core.domains.imports.qupath import features

    if isinstance(content, dict):
        if isinstance(content.get("shapes"), list):
            return "labelme"
        if isinstance(content.get("images"), list) and isinstance(content.get("annotations"), list):
            return "coco"
    return "qupath" if features(content) else None


def read_label_file(path: Path, tool: str) -> dict[str, ImageLabels]:
    """The labels of a file by the name of the image; an empty name in a file of one image.

    Args:
        path: the file.
        tool: one of `TOOLS`.

    Raises:
        InputError: the file cannot be read, or is not one of this tool.
    """
    try:
        return _read(path, tool, file_identity(path))
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: is no file of {tool}. Remedy: correct `labels` in domain.yaml.") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error}). Remedy: check the path and its rights.") from error


@functools.lru_cache(maxsize=4)
def _read(path: Path, tool: str, identity: tuple[int, int]) -> dict[str, ImageLabels]:
    """A file of many images is read for each of them: the last ones are kept."""
    found: dict[str, ImageLabels] = import_module(f"microseg.core.domains.imports.{tool}").read(path)
    return found


def by_image(found: LabelFiles, images: Sequence[tuple[str, Path]]) -> dict[Path, tuple[Path, str]]:
    """File and name in it of every image that the files of a domain name.

    A name is compared with the image's path below its folder from the end, so that the folders of the tool's own machine do not
    count. It is never opened.

    Args:
        found: label files that name their images.
        images: name and file of every image.

    Raises:
        InputError: two entries belong to one image, or two images to one entry.
    """
    named: dict[str, list[tuple[Path, str]]] = {}
    for path in found.files:
        for name in read_label_file(path, found.format):
            named.setdefault(_parts(name)[-1], []).append((path, name))
    by_stem: dict[str, list[tuple[Path, str]]] = {}
    for last, entries in named.items():
        by_stem.setdefault(PurePosixPath(last).stem, []).extend(entries)
    pairs: dict[Path, tuple[Path, str]] = {}
    for name, image in images:
        last = _parts(name)[-1]
        # The tool may have labelled a copy in another format.
        entries = named.get(last) or by_stem.get(PurePosixPath(last).stem, [])
        alike = [_shared(_parts(name)[:-1], _parts(entry[1])[:-1]) for entry in entries]
        best = [entry for entry, shared in zip(entries, alike, strict=True) if shared == max(alike)]
        if len(best) > 1 or (best and best[0] in pairs.values()):
            raise InputError(
                f"{best[0][0]}: the image {name} and its entries ({', '.join(entry[1] for entry in best)}) are not one to one. "
                "Remedy: one entry for each image, with its folder where names repeat."
            )
        if best:
            pairs[image] = best[0]
    return pairs


def _parts(name: str) -> tuple[str, ...]:
    """Folders and file of a name as any system writes it, in lower case."""
    return PurePosixPath(name.replace("\\", "/").lower()).parts or ("",)


def _shared(first: tuple[str, ...], second: tuple[str, ...]) -> int:
    """Number of parts that are the same, counted from the end."""
    pairs = list(zip(reversed(first), reversed(second), strict=False))
    return next((number for number, (a, b) in enumerate(pairs) if a != b), len(pairs))
