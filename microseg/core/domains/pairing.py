"""The mask of each image, and the group of each field."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from microseg.core.domains.imports.finding import ONE_IMAGE, LabelFiles, by_image
from microseg.core.domains.layout import MASK_SUFFIXES, mask_suffix
from microseg.core.errors import InputError
from microseg.core.images.folders import IMAGE_KINDS, find_images, find_masks, readable
from microseg.core.system.targets import resolved

# `groups: folder`: the fields of one folder are one group.
BY_FOLDER = "folder"
_LISTED = 10


@dataclass(frozen=True)
class DomainField:
    """One micrograph of a domain.

    Attributes:
        name: unique path with suffix, `/` between folders, relative to the image folder or to what several folders share.
        image: its file.
        mask: the file of its mask, or None.
        group: specimen or spot.
        is_test: whether it is left out of training.
        entry: what a label file of several images calls it; empty for masks and files of one image.
        pixel_size_um: edge of a native pixel in micrometres that the domain.yaml states for this field alone, or None.
    """

    name: str
    image: Path
    mask: Path | None
    group: str
    is_test: bool = False
    entry: str = ""
    pixel_size_um: float | None = None


def pair_fields(
    source: Path,
    images: Sequence[Path],
    masks: Sequence[Path],
    mask_suffix: str | None,
    groups: str | dict[str, list[str]] | None,
    test: Sequence[str],
    *,
    files: LabelFiles | None = None,
) -> tuple[DomainField, ...]:
    """The fields of the image folders, each with the mask of the same relative path and stem.

    A mask has the image's stem (a.png for a.tif), its whole name (a.tif.png) or its stem without nnU-Net's channel (a.png for
    a_0000.png), followed by a suffix of `MASK_SUFFIXES`; case does not count. A mask folder may lie in its image folder, or be
    the same folder where `mask_suffix` tells masks from images.

    Args:
        source: the domain, for messages.
        images: image folders.
        masks: mask folders, one for each image folder; none for an unlabelled domain.
        mask_suffix: what a mask's stem has after the image's; None: found out.
        groups: the rule of the groups, see `field_groups`.
        test: stems or groups that are left out of training.
        files: label files in place of masks.

    Raises:
        InputError: no images, images or masks with the same stem, images without mask, a group rule that misses fields, or
            unknown `test` names. The message lists all of one kind.
    """
    if files is None and masks and len(masks) != len(images):
        raise InputError(
            f"{source}: {len(images)} image folders, {len(masks)} mask folders. Remedy: name one mask folder for each."
        )
    fields: list[tuple[str, Path, Path | None, str]] = []
    for number, folder in enumerate(images):
        found = _images_of(source, folder, masks, mask_suffix)
        named = _named(source, folder, images, found)
        if files is not None and files.format not in ONE_IMAGE:
            entries = _entries(folder, files, named)
            fields += [(name, path, *entries[path]) for name, path in named]
        else:
            root = masks[number] if files is None and masks else None if files is None else files.root
            pairs = {} if root is None else _pairs(folder, found, root, mask_suffix, files)
            fields += [(name, path, pairs.get(path), "") for name, path in named]
    group_of = field_groups(source, [Path(name) for name, _, _, _ in fields], groups)
    found_fields = [
        DomainField(name, image, mask, group, entry=entry)
        for (name, image, mask, entry), group in zip(fields, group_of, strict=True)
    ]
    return with_test(source, found_fields, test)


def _entries(folder: Path, files: LabelFiles, named: list[tuple[str, Path]]) -> dict[Path, tuple[Path, str]]:
    """Label file and name in it of every image."""
    found = by_image(files, named)
    missing = [name for name, path in named if path not in found]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(named)} images are not named in {', '.join(map(str, files.files))}: "
            f"{_list(missing)}. Remedy: add them to the labels, or move these images elsewhere."
        )
    return found


def named_images(
    source: Path, images: Sequence[Path], masks: Sequence[Path], mask_suffix: str | None
) -> list[tuple[str, Path]]:
    """Name and file of every image of the folders, with or without mask.

    Args:
        source: the domain, for messages.
        images: image folders.
        masks: mask folders, which hold no images.
        mask_suffix: what a mask's stem has after the image's, or None.

    Raises:
        InputError: a folder holds no images.
    """
    return [
        item
        for folder in images
        for item in _named(source, folder, images, _images_of(source, folder, masks, mask_suffix))
    ]


def _named(source: Path, folder: Path, folders: Sequence[Path], files: Sequence[Path]) -> list[tuple[str, Path]]:
    """Files with their names: relative to their folder, or to what several folders share."""
    if len(folders) == 1:
        return [(readable(path.relative_to(folder).as_posix()), path) for path in files]
    try:
        root = Path(os.path.commonpath([item.absolute() for item in folders]))
    except ValueError as error:
        raise InputError(
            f"{source}: the image folders lie on several drives. Remedy: one YAML file for each."
        ) from error
    return [(readable(path.absolute().relative_to(root).as_posix()), path) for path in files]


def _images_of(source: Path, folder: Path, masks: Sequence[Path], mask_suffix: str | None) -> list[Path]:
    """The images of a folder without what lies in a mask folder, or is a mask beside its image."""
    found = find_images(folder, stated=True)
    here = resolved(folder)
    for there in (resolved(mask) for mask in masks):
        if here == there:
            if not mask_suffix:
                raise InputError(f"{source}: images and masks lie in one folder. Remedy: `mask_suffix` in domain.yaml.")
            found = [path for path in found if not path.stem.lower().endswith(mask_suffix.lower())]
        elif there.is_relative_to(here):
            inside = there.relative_to(here).parts
            found = [path for path in found if path.relative_to(folder).parts[: len(inside)] != inside]
    if not found:
        raise InputError(f"{folder}: holds no images ({IMAGE_KINDS}). Remedy: check the path.")
    return found


def _pairs(
    folder: Path, images: list[Path], masks: Path, suffix: str | None, files: LabelFiles | None
) -> dict[Path, Path]:
    """Mask or label file by image. Masks without image are left out: the images may be a selection."""
    found = _ByName(masks, find_masks(masks) if files is None else files.files, set(images))
    if not found:
        raise InputError(
            f"{masks}: holds no masks ({IMAGE_KINDS}){_others(masks)}. Remedy: save them as PNG or TIFF, or write "
            "`masks: null` in domain.yaml for a domain without labels."
        )
    names = {image: image.relative_to(folder) for image in images}
    ways = [(form, end) for form in _FORMS for end in (("", *MASK_SUFFIXES) if suffix is None else (suffix,))]
    form, end = max(ways, key=lambda way: sum(way[0](name) + way[1] in found for name in names.values()))
    missing = [image.name for image, name in names.items() if form(name) + end not in found]
    if missing:
        raise InputError(
            f"{folder}: {len(missing)} of {len(images)} images have no mask in {masks}: {_list(missing)}. "
            f"A mask has the image's name{f' with {end!r} after it' if end else ''}. Remedy: add the masks, move "
            "these images elsewhere, or set `mask_suffix` in domain.yaml."
        )
    pairs = {image: found[form(name) + end] for image, name in names.items()}
    twice = _shared(pairs)
    if twice and form is _without_channel:
        raise InputError(
            f"{folder}: several channels of a field: {_list(twice)}. One is measured. "
            "Remedy: keep the files of one channel here."
        )
    if twice:
        raise InputError(
            f"{folder}: images with the same stem: {_list(twice)}. A mask belongs to one image. Remedy: rename or remove one."
        )
    return pairs


def _others(folder: Path) -> str:
    """What a folder holds instead of images, by suffix."""
    suffixes = Counter(path.suffix.lower() or path.name for path in folder.iterdir() if path.is_file())
    listed = ", ".join(f"{number} {suffix}" for suffix, number in suffixes.most_common(_LISTED))
    return f", but {listed}" if listed else ""


def suffix_beside(folder: Path) -> str | None:
    """The suffix that tells masks from the images that they lie beside; None where not every image has its mask so.

    Args:
        folder: the folder of images.
    """
    stems = {_folded(_stem(path)) for path in find_masks(folder)}
    ends = {stem: mask_suffix(stem) for stem in stems}
    masks = {stem: end for stem, end in ends.items() if end and stem.removesuffix(end) in stems}
    paired = {stem.removesuffix(end) for stem, end in masks.items()}
    suffixes = set(masks.values())
    return suffixes.pop() if len(suffixes) == 1 and paired == stems - masks.keys() else None


def _stem(name: Path) -> str:
    return name.with_suffix("").as_posix()


def _without_channel(name: Path) -> str:
    return re.sub("_[0-9]{4}$", "", _stem(name))


# What of an image's name its mask repeats: the stem; the whole name, as the masks of `segment` do (a.tif.png); the stem without
# the number of the channel, as nnU-Net's do.
_FORMS: tuple[Callable[[Path], str], ...] = (_stem, Path.as_posix, _without_channel)


def _shared(pairs: dict[Path, Path]) -> list[str]:
    """Names of the images that share a mask."""
    images_of: dict[Path, list[str]] = defaultdict(list)
    for image, mask in pairs.items():
        images_of[mask].append(image.name)
    return [" and ".join(sorted(names)) for names in images_of.values() if len(names) > 1]


class _ByName:
    """Masks by their name without the last suffix. Case and Unicode form count only where they tell two masks apart."""

    def __init__(self, folder: Path, files: Sequence[Path], images: set[Path]) -> None:
        self._exact: dict[str, list[Path]] = defaultdict(list)
        self._alike: dict[str, list[Path]] = defaultdict(list)
        for path in (path for path in files if path not in images):
            name = _stem(path.relative_to(folder))
            self._exact[name].append(path)
            self._alike[_folded(name)].append(path)
        twice = [" and ".join(path.name for path in paths) for paths in self._exact.values() if len(paths) > 1]
        if twice:
            raise InputError(
                f"{folder}: masks with the same stem: {_list(twice)}. A mask belongs to one image. "
                "Remedy: rename or remove one."
            )

    def __len__(self) -> int:
        return len(self._exact)

    def __contains__(self, name: str) -> bool:
        return self._paths(name) != []

    def __getitem__(self, name: str) -> Path:
        return self._paths(name)[0]

    def _paths(self, name: str) -> list[Path]:
        if name in self._exact:
            return self._exact[name]
        alike = self._alike.get(_folded(name), [])
        return alike if len(alike) == 1 else []


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def field_groups(source: Path, names: list[Path], groups: str | dict[str, list[str]] | None) -> list[str]:
    """The group of each field.

    Args:
        source: the domain, for messages.
        names: path of each field below its image folder.
        groups: a regular expression with one group for the stem, a table of stems by group, `folder`, or None: each its own.

    Raises:
        InputError: no regular expression with one group, or fields without group.
    """
    if groups is None:
        return [name.as_posix() for name in names]
    if groups == BY_FOLDER:
        return [name.parent.as_posix() for name in names]
    if isinstance(groups, dict):
        group_of = {stem: group for group, stems in groups.items() for stem in stems}
        found = [group_of.get(name.stem) for name in names]
        how = "`groups` does not list"
    else:
        try:
            pattern = re.compile(groups)
        except re.error as error:
            raise InputError(
                f"{source}: groups: {groups!r} is no regular expression ({error}). Remedy: correct it."
            ) from error
        if pattern.groups != 1:
            raise InputError(
                f"{source}: groups: {groups!r} has {pattern.groups} capture groups. Remedy: one, as in "
                "'^(spot[0-9]+)', or 'folder'."
            )
        matches = [pattern.search(name.stem) for name in names]
        found = [match[1] if match else None for match in matches]
        how = f"groups: {groups!r} does not match"
    missed = [name.stem for name, group in zip(names, found, strict=True) if not group]
    if missed:
        raise InputError(f"{source}: {how} {_list(missed)}. Remedy: every field needs a group.")
    return [str(group) for group in found]


def with_test(source: Path, fields: list[DomainField], test: Sequence[str]) -> tuple[DomainField, ...]:
    """The fields, with those marked that `test` names.

    Args:
        source: the domain, for messages.
        fields: the fields.
        test: stems or groups.

    Raises:
        InputError: a name is neither a stem nor a group.
    """
    known = {Path(field.name).stem for field in fields} | {field.group for field in fields}
    unknown = [name for name in test if name not in known]
    if unknown:
        raise InputError(
            f"{source}: test: {_list(unknown)} is neither a stem nor a group of this domain. Remedy: correct `test`."
        )
    return tuple(
        replace(field, is_test=True) if Path(field.name).stem in test or field.group in test else field
        for field in fields
    )


def _list(names: Sequence[str]) -> str:
    listed = ", ".join(sorted(names)[:_LISTED])
    return listed if len(names) <= _LISTED else f"{listed} and {len(names) - _LISTED} more"
