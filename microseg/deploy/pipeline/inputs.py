"""The input of `segment`: the micrographs and their preparation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from microseg.core.domains.domain_file import DomainFile, domain_file_in, expanded_path, read_domain_file
from microseg.core.domains.pairing import named_images
from microseg.core.domains.pixel_sizes import preparation_of, size_of_field, sizes_of_fields
from microseg.core.errors import InputError
from microseg.core.images.folders import IMAGE_KINDS, find_images, look_through, readable
from microseg.core.images.pixel_size import PixelSize
from microseg.core.notices import Notice
from microseg.core.preparation.field_scale import assumed_size
from microseg.core.preparation.wording import preparation_text
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import DomainEntry, Preparation
from microseg.deploy.pipeline.nearby import NearbyFiles
from microseg.deploy.report.names import absolute

_YAML = (".yaml", ".yml")
_STATED = ("invert", "crop", "intensity", "artefacts", "page", "channel", "keep_data_bar", "keep_padding")


@dataclass(frozen=True)
class InputField:
    """One micrograph.

    Attributes:
        name: its path below the input with suffix, posix. The report uses it.
        path: the file.
        problem: why it cannot be measured, where its name or its place tells; else None.
        pixel_size_um: edge of a native pixel in micrometres that the domain.yaml states for this field alone, or None.
        settings: the domain.yaml near the field whose settings it has, relative to the input; None for the input's own.
    """

    name: str
    path: Path
    problem: str | None = None
    pixel_size_um: float | None = None
    settings: str | None = None


@dataclass(frozen=True)
class SegmentInput:
    """The micrographs and their preparation.

    Attributes:
        title: name of the input.
        fields: the micrographs in order of their names.
        domain: name of the engine's domain to measure as.
        preparation: how the fields are prepared. Its pixel size wins over the one that a file states.
        nearby: how fields are prepared that have the settings of a domain.yaml near them, by its path.
        assumed: pixel size for files that state none: that of the training images; None where nothing is assumed.
        left_out: what lies in the input and is no field, one sentence for each kind.
    """

    title: str
    fields: tuple[InputField, ...]
    domain: str
    preparation: Preparation
    nearby: Mapping[str, Preparation]
    assumed: PixelSize | None
    left_out: tuple[str, ...] = ()

    def preparation_of(self, field: InputField) -> Preparation:
        """How one of the fields is prepared."""
        shared = self.preparation if field.settings is None else self.nearby[field.settings]
        return preparation_of(shared, field.pixel_size_um)

    def notices_of(self, field: InputField) -> tuple[Notice, ...]:
        """What the user should know about the settings of one of the fields."""
        if field.settings is None:
            return ()
        return (Notice("settings", f"settings of {field.settings}: {preparation_text(self.nearby[field.settings])}"),)


def resolve_input(path: Path, manifest: Manifest, domain: str | None, given: Mapping[str, object]) -> SegmentInput:
    """Find the micrographs of an input and their preparation.

    `given` wins over a domain.yaml, and that wins over the engine's domain. The pixel size of a file's metadata wins over the
    engine's, which describes the training images. The nearest domain.yaml of each micrograph counts, from its own folder up to
    one folder above the input; a YAML file that is given counts for all.

    Args:
        path: a file, a folder, a domain folder, or a domain's YAML file.
        manifest: the engine's manifest.
        domain: name of the engine's domain (`--as`); None for its default.
        given: values of `Preparation` by key, as the command line gives them.

    Raises:
        InputError: no such path, no images, unknown domain, or a broken domain.yaml.
    """
    described = described_input(path)
    stated = {} if described is None else stated_keys(described[1])
    entry, preparation = domain_preparation(manifest, domain, stated | dict(given))
    folders = [path] if described is None else image_folders(*described)
    found = [look_through(folder, stated=described is not None) for folder in folders]
    named = _fields(path) if described is None else described_fields(*described)
    fields = _one_of_each(named, {file: paths for each in found for file, paths in each.doubtful.items()})
    refuse_one_name(path, fields)
    nearby: dict[str, Preparation] = {}
    if not path.is_file() or path.suffix.lower() not in _YAML:
        fields = _with_nearby(
            path, fields, None if described is None else described[0], nearby, manifest, domain, given
        )
    return SegmentInput(
        title=readable(absolute(path).name or absolute(path).anchor),
        fields=fields,
        domain=entry.name,
        preparation=preparation,
        nearby=nearby,
        assumed=assumed_size(entry, manifest.grid),
        left_out=tuple(dict.fromkeys(text for each in found for text in each.left_out)),
    )


def _with_nearby(
    path: Path,
    fields: tuple[InputField, ...],
    own: Path | None,
    nearby: dict[str, Preparation],
    manifest: Manifest,
    domain: str | None,
    given: Mapping[str, object],
) -> tuple[InputField, ...]:
    """The fields with the nearest domain.yaml where that is not the input's `own`; its preparation goes to `nearby`."""
    start = absolute(path)
    files = NearbyFiles(start.parent.parent if path.is_file() else start.parent)
    found = []
    for field in fields:
        placed, content = with_nearest(files, field, start, own)
        if content is not None and placed.settings is not None and placed.settings not in nearby:
            nearby[placed.settings] = domain_preparation(manifest, domain, stated_keys(content) | dict(given))[1]
        found.append(placed)
    return tuple(found)


def with_nearest(
    files: NearbyFiles, field: InputField, start: Path, own: Path | None = None
) -> tuple[InputField, DomainFile | None]:
    """A field with the name and the pixel size of the nearest domain.yaml, and its content; None where that is `own`.

    Args:
        files: finds the file.
        field: the field.
        start: the input, absolute.
        own: the file that describes the input itself.

    Raises:
        InputError: the file cannot be used.
    """
    nearest = files.of(absolute(field.path).parent)
    if nearest is None or (own is not None and nearest[0] == absolute(own)):
        return field, None
    source, content = nearest
    base = start.parent if start.is_file() else start
    name = readable(Path(os.path.relpath(source, base)).as_posix())
    below = Path(os.path.relpath(absolute(field.path), source.parent)).as_posix()
    size = size_of_field(content.pixel_sizes or {}, readable(below))
    return replace(field, settings=name, pixel_size_um=size), content


def _one_of_each(fields: list[InputField], doubtful: Mapping[Path, tuple[Path, ...]]) -> tuple[InputField, ...]:
    """The fields, of which each that is stored in several files is one that cannot be measured."""
    chosen = []
    for field in fields:
        paths = doubtful.get(field.path)
        if paths is None:
            chosen.append(field)
        elif field.path == paths[0]:
            chosen.append(replace(field, problem=doubtful_problem(paths)))
    return tuple(chosen)


def doubtful_problem(paths: Sequence[Path]) -> str:
    """Why none of several files of one stem is measured."""
    names = " and ".join(readable(path.name) for path in paths)
    return (
        f"{readable(str(paths[0]))}: {names} have one name: they may be one field, saved twice. Remedy: keep the one to be "
        "measured, or give each field a name of its own."
    )


def domain_preparation(
    manifest: Manifest, domain: str | None, stated: Mapping[str, object]
) -> tuple[DomainEntry, Preparation]:
    """The engine's domain to measure as, and its preparation where `stated` keys win.

    The preparation has no pixel size unless one is stated: the engine's describes the training images.

    Args:
        manifest: the engine's manifest.
        domain: name of the domain (`--as`); None for the engine's default.
        stated: values of `Preparation` by key.

    Raises:
        InputError: the engine has no such domain, or `artefacts` names no phase of it, or all.
    """
    try:
        entry = manifest.domain(domain)
    except ValueError as error:
        raise InputError(f"--as {error}.") from error
    preparation = entry.preparation.model_copy(update={"pixel_size_um": None, **stated})
    names = [phase.name for phase in manifest.phases]
    if unknown := [name for name in preparation.artefacts if name not in names]:
        raise InputError(
            f"artefacts: {unknown[0]!r} is none of the engine's phases ({', '.join(names)}). Remedy: correct `artefacts` in "
            "domain.yaml."
        )
    if len(set(preparation.artefacts)) == len(names):
        raise InputError("artefacts: names every phase of the engine. Remedy: leave at least one phase to measure.")
    return entry, preparation


def refuse_one_name(path: Path, fields: tuple[InputField, ...]) -> None:
    r"""Refuse two files of one name: bytes of a name that are no UTF-8 are shown as \xNN, which may be another file's name."""
    name, count = Counter(field.name for field in fields).most_common(1)[0]
    if count > 1:
        raise InputError(f"{path}: {count} files have the name {name!r}. Remedy: rename all but one of them.")


def described_input(path: Path) -> tuple[Path, DomainFile] | None:
    """The YAML file that describes `path` and its content; None without one. Raises InputError."""
    if path.suffix.lower() in _YAML and path.is_file():
        return path, read_domain_file(path)
    described = domain_file_in(path) if path.is_dir() else None
    return (described, read_domain_file(described)) if described else None


def stated_keys(content: DomainFile) -> dict[str, object]:
    """What a domain.yaml states of the preparation, by key."""
    stated = {key: getattr(content, key) for key in _STATED if key in content.model_fields_set}
    return stated | {"pixel_size_um": content.pixel_size_um}


def _fields(path: Path) -> list[InputField]:
    images = find_images(path)
    if not images:
        raise InputError(f"{path}: holds no images ({IMAGE_KINDS}). Remedy: give a file or folder with images.")
    if path.is_file():
        return [InputField(readable(path.name), path)]
    return [InputField(readable(image.relative_to(path).as_posix()), image) for image in images]


def image_folders(source: Path, content: DomainFile) -> list[Path]:
    """The folders of images that a domain.yaml names. Raises InputError where one does not exist."""
    folders = [expanded_path(text, source.parent, source) for text in content.image_folders(source.parent)]
    missing = [str(folder) for folder in folders if not folder.is_dir()]
    if missing:
        raise InputError(f"{source}: these folders do not exist: {', '.join(missing)}. Remedy: correct the paths.")
    return folders


def described_fields(source: Path, content: DomainFile) -> list[InputField]:
    """The images that a domain.yaml names, whether or not they have masks. Raises InputError."""
    base = source.parent
    folders = image_folders(source, content)
    masks = [expanded_path(text, base, source) for text in content.mask_folders(base)]
    images = named_images(source, folders, masks, content.mask_suffix)
    sizes = sizes_of_fields(content.pixel_sizes or {}, [name for name, _ in images], source)
    return [InputField(name, path, pixel_size_um=sizes.get(name)) for name, path in images]
