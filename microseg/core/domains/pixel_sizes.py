"""`pixel_sizes` of a domain.yaml: the pixel size of single fields, by the name or stem of their files."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from statistics import median

from microseg.core.domains.pairing import DomainField
from microseg.core.errors import InputError
from microseg.core.images.folders import find_images
from microseg.core.images.scale.statement import TOLERANCE
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.prepared_field import PreparedField, open_prepared
from microseg.core.schemas.preparation import Grid, Preparation

_LISTED = 10


def sizes_of_fields(stated: Mapping[str, float], names: Iterable[str], source: Path) -> dict[str, float]:
    """The pixel size of each field that `pixel_sizes` names, in micrometres, by the field's name.

    A key is the path of a file or its end, such as its name, with or without suffix; the longest one counts.

    Args:
        stated: the content of `pixel_sizes`.
        names: names of all fields of the domain.
        source: the domain.yaml, for messages.

    Raises:
        InputError: a key names no field; the message lists all of them.
    """
    sizes = {_composed(key): size for key, size in stated.items()}
    found: dict[str, float] = {}
    used: set[str] = set()
    for name in names:
        keys = [key for key in _keys(name) if key in sizes]
        used.update(keys)
        if keys:
            found[name] = sizes[keys[0]]
    unknown = sorted(sizes.keys() - used)
    if unknown:
        more = f" and {len(unknown) - _LISTED} more" if unknown[_LISTED:] else ""
        raise InputError(
            f"{source}: pixel_sizes: no image has the name {', '.join(map(repr, unknown[:_LISTED]))}{more}. "
            "Remedy: the name of a file, or its name without suffix."
        )
    return found


def size_of_field(stated: Mapping[str, float], name: str) -> float | None:
    """The pixel size that `pixel_sizes` gives one field, in micrometres, or None. Keys are those of `sizes_of_fields`.

    Args:
        stated: the content of `pixel_sizes`.
        name: name of the field.
    """
    sizes = {_composed(key): size for key, size in stated.items()}
    return next((sizes[key] for key in _keys(name) if key in sizes), None)


def refuse_unknown_names(stated: Mapping[str, float] | None, source: Path) -> None:
    """Raise InputError where a key of `pixel_sizes` names no image below the folder of its domain.yaml.

    Args:
        stated: the content of `pixel_sizes`.
        source: the domain.yaml.
    """
    if stated:
        folder = source.parent
        sizes_of_fields(stated, [path.relative_to(folder).as_posix() for path in find_images(folder)], source)


def _keys(name: str) -> list[str]:
    """The keys that name a field, the more exact ones first."""
    path = PurePosixPath(_composed(name))
    bare = path.with_suffix("")
    return ["/".join(each.parts[start:]) for start in range(len(path.parts)) for each in (path, bare)]


def _composed(text: str) -> str:
    """MacOS stores accents as two characters, editors write one."""
    return unicodedata.normalize("NFC", text)


def with_pixel_sizes(
    fields: Iterable[DomainField], stated: Mapping[str, float] | None, source: Path
) -> tuple[DomainField, ...]:
    """The fields with the sizes that `pixel_sizes` gives them. Arguments and errors as for `sizes_of_fields`."""
    fields = tuple(fields)
    if not stated:
        return fields
    sizes = sizes_of_fields(stated, [field.name for field in fields], source)
    return tuple(replace(field, pixel_size_um=sizes.get(field.name)) for field in fields)


def open_field(
    field: DomainField, preparation: Preparation, grid: Grid, scale: ScaleRules = ScaleRules()
) -> PreparedField:
    """Open a field of a domain for the network. Its own pixel size of `pixel_sizes` wins over the preparation's.

    Args:
        field: the field.
        preparation: the domain's preparation.
        grid: the network's pixel grid.
        scale: what decides the pixel size beside them and the file.

    Raises:
        FieldError: as `open_prepared`.
    """
    return open_prepared(field.image, preparation_of(preparation, field.pixel_size_um), grid, scale)


def preparation_of(preparation: Preparation, pixel_size_um: float | None) -> Preparation:
    """The preparation of a field with a pixel size of its own in micrometres, or None."""
    return preparation if pixel_size_um is None else preparation.model_copy(update={"pixel_size_um": pixel_size_um})


def size_conflict(sizes: Mapping[str, float | None]) -> str | None:
    """Why fields cannot train on one grid; None where they can.

    Args:
        sizes: the width of a native pixel of each field, um, by its name; None where nothing states it.
    """
    known = [size for size in sizes.values() if size is not None]
    if not known:
        return None
    middle = median(known)
    for name, size in sizes.items():
        if size is None or abs(size / middle - 1) > TOLERANCE:
            told = "states none" if size is None else f"{size:g} um"
            return (
                f"fields differ in pixel size ({name}: {told}, median {middle:g} um). "
                "Remedy: one domain per magnification, or `pixel_size_um` in domain.yaml."
            )
    return None
