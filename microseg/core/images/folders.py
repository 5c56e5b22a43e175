"""The images of a folder, without its masks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from microseg.core.domains.domain_file import DomainFile, domain_file_in, expanded_path, read_domain_file
from microseg.core.errors import InputError
from microseg.core.images.formats.known import NOT_READ, READ_WITH_EXTRA

IMAGE_SUFFIXES = frozenset(
    {".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg", ".jfif", ".jp2", ".j2k", ".webp", *READ_WITH_EXTRA, *NOT_READ}
)
IMAGE_KINDS = "TIFF, PNG, BMP, JPEG, JPEG 2000, WebP, CZI or DM3/DM4"


@dataclass(frozen=True)
class _Masks:
    """Where a folder keeps its masks: in folders of their own, or beside the images with a suffix."""

    folders: frozenset[Path]
    suffix: str | None


def find_images(folder: Path) -> list[Path]:
    """Image files below a folder, sorted by relative path.

    Left out are hidden files and folders, reports of `segment`, folders named `masks`, and what a domain.yaml names as masks.

    Args:
        folder: a folder, or an image file, which is returned alone.

    Raises:
        InputError: the path does not exist, is no image, or is a folder of masks.
    """
    if folder.is_file():
        if folder.suffix.lower() not in IMAGE_SUFFIXES:
            raise InputError(f"{folder}: is no image file. Remedy: give a folder, or a {IMAGE_KINDS} file.")
        return [folder]
    if not folder.is_dir():
        raise InputError(f"{folder}: does not exist. Remedy: give a folder of images or an image file.")
    resolved = folder.resolve()
    above = _masks_of(resolved.parent)
    if resolved in above.folders:
        raise InputError(f"{folder}: holds the masks of a domain. Remedy: give its folder of images.")
    return _walk(folder, with_masks=False)


def find_masks(folder: Path) -> list[Path]:
    """Image files below a folder that holds masks, sorted by relative path."""
    return _walk(folder, with_masks=True)


def readable(name: str) -> str:
    r"""A file name as valid Unicode: bytes that are not UTF-8 become \xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _walk(folder: Path, with_masks: bool) -> list[Path]:
    found: list[Path] = []
    _collect(folder, with_masks, found, set())
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def _collect(folder: Path, with_masks: bool, found: list[Path], seen: set[Path]) -> None:
    """Add the images of `folder` and below. A linked folder is followed once."""
    resolved = folder.resolve()
    if resolved in seen:
        return
    seen.add(resolved)
    masks = _Masks(frozenset(), None) if with_masks else _masks_of(folder)
    images: list[str] = []
    folders: list[str] = []
    try:
        for entry in os.scandir(folder):
            if entry.name.startswith("."):
                continue
            # A broken link is kept, so that it fails by name. Pipes and devices are left out: reading them blocks.
            leads = not entry.is_symlink() or (folder / entry.name).exists()
            if leads and entry.is_dir():
                folders.append(entry.name)
            elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and (not leads or entry.is_file()):
                images.append(entry.name)
    except OSError as error:
        raise InputError(
            f"{folder}: cannot be listed ({error.strerror or error}). Remedy: check its rights."
        ) from error
    stems = {Path(name).stem for name in images}
    found += [folder / name for name in images if not _is_mask_beside(Path(name).stem, stems, masks.suffix)]
    for name in folders:
        if not _is_report(folder / name) and (folder / name).resolve() not in masks.folders:
            _collect(folder / name, with_masks, found, seen)


def _is_report(folder: Path) -> bool:
    return (folder / "settings.json").is_file() and (folder / "records").is_dir()


def _is_mask_beside(stem: str, stems: set[str], suffix: str | None) -> bool:
    return bool(suffix) and stem.endswith(suffix or "") and stem.removesuffix(suffix or "") in stems


def _described(folder: Path) -> Path | None:
    """The domain.yaml of a folder; None without one, and for two of them, which `load_domain` reports."""
    try:
        return domain_file_in(folder)
    except InputError:
        return None


def _masks_of(folder: Path) -> _Masks:
    """The mask folders that the domain.yaml of `folder` states, and the folder `masks`."""
    named: list[Path] = [folder / "masks"]
    suffix = None
    described = _described(folder)
    if described is not None:
        try:
            content = read_domain_file(described)
            stated = [expanded_path(text, folder, folder) for text in content.mask_folders(folder)]
        except InputError:
            content, stated = DomainFile(), []  # `load_domain` reports a broken domain.yaml
        named += stated
        if any(path.resolve() == folder.resolve() for path in stated):
            suffix = content.mask_suffix
    return _Masks(frozenset(path.resolve() for path in named), suffix)
