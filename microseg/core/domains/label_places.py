"""Where the labels of a domain are: in mask folders, beside the images, or in label files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from microseg.core.domains.domain_file import DomainFile, expanded_path
from microseg.core.domains.imports.finding import LabelFiles, files_below, files_in, find_label_files
from microseg.core.domains.pairing import suffix_beside
from microseg.core.errors import InputError
from microseg.core.images.folders import find_masks


@dataclass(frozen=True)
class LabelPlaces:
    """Where the labels of a domain are.

    Attributes:
        masks: mask folders, one for each image folder; none without masks.
        suffix: what a mask's name has after the image's; None: found out.
        files: label files in place of masks, or None.
    """

    masks: list[Path]
    suffix: str | None
    files: LabelFiles | None = None


def mask_places(source: Path, content: DomainFile, images: list[Path]) -> LabelPlaces:
    """Where masks are, by the names of folders and files alone.

    Args:
        source: the domain, for messages: its folder or YAML file.
        content: its domain.yaml.
        images: its image folders.

    Raises:
        InputError: several folders may hold the masks, or a variable in a path is not set.
    """
    base = source if source.is_dir() else source.parent
    masks = [expanded_path(text, base, source) for text in content.mask_folders(base)]
    if masks or "masks" in content.model_fields_set or len(images) != 1:
        return LabelPlaces(masks, content.mask_suffix)
    suffix = content.mask_suffix or suffix_beside(images[0])
    return LabelPlaces(images if suffix else [], suffix)


def label_places(source: Path, content: DomainFile, images: list[Path]) -> LabelPlaces:
    """Where masks or label files are. Files are opened to know the tool that wrote them.

    Args:
        source: the domain, for messages: its folder or YAML file.
        content: its domain.yaml.
        images: its image folders.

    Raises:
        InputError: as `mask_places`, or the label files that the domain.yaml states are not there.
    """
    found = mask_places(source, content, images)
    is_stated = bool(content.masks)
    if content.labels == "masks" or ("masks" in content.model_fields_set and not content.masks):
        return found
    if content.labels is None and any(path.is_dir() and find_masks(path) for path in found.masks):
        return found
    base = source if source.is_dir() else source.parent
    places = [(path.parent, [path]) if path.is_file() else (path, files_below(path)) for path in found.masks]
    if not is_stated:
        places += [(path, files_below(path)) for path in images] + [(base, files_in(base))]
    files = find_label_files(places, content.labels)
    unknown = [path for path in found.masks if path.is_file()]
    if files is None and unknown:
        raise InputError(
            f"{unknown[0]}: is no file of labelme, coco, cvat or qupath. Remedy: correct `masks` in {source}."
        )
    if files is None and content.labels is not None:
        where = ", ".join(str(path) for path, _ in places)
        raise InputError(f"{source}: labels: {content.labels}: {where} holds no such files. Remedy: correct `masks`.")
    return LabelPlaces([], found.suffix, files) if files else found
