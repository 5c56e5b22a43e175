"""The real fields that an export calibrates and is judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.domain import load_domain, preparation_as
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.preparation.stitching import predict_tiled
from microseg.core.preparation.tiling import Tile, extract, plan_tiles
from microseg.core.schemas.run import RunRecord

# A float32 bag of five takes seconds a field on a CPU; more fields tell little more about rounding.
MAX_FIELDS = 16
# A whole 1024 x 1024 field in one pass; larger ones in tiles.
MAX_TILE_PX = 1_200_000
# For ranges and for each layer's harm: enough grey values of every phase, and quick enough to try every layer.
CALIBRATION_TILES, CALIBRATION_TILE_PX = 12, 1 << 16

T = TypeVar("T")


@dataclass(frozen=True)
class Field:
    """A field as the network sees it: uint8 (h, w)."""

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class FieldSet:
    """Fields of one origin, as the manifest names it."""

    name: str
    fields: tuple[Field, ...]


def held_out(run: Path, folders: Sequence[str]) -> FieldSet:
    """The held-out tiles that training kept in the run, beside its networks. Raises InputError where there are none."""
    paths = [path for folder in folders for path in sorted((run / folder / "parity").glob("*.png"))]
    if not paths:
        where = ", ".join(f"{folder}/parity" for folder in folders)
        raise InputError(f"{run}: holds no tiles to compare the engine on ({where}). Remedy: train it again.")
    fields = []
    for path in paths:
        with Image.open(path) as image:
            fields.append(Field(path.relative_to(run).as_posix(), np.asarray(image, np.uint8)))
    return FieldSet("held-out tiles of the run", tuple(fields))


def calibration_domain(source: Path, record: RunRecord) -> FieldSet:
    """At most MAX_FIELDS fields of a domain, evenly spread, prepared as the run's domain of that name or its last one.

    Labels are not looked for. What a domain.yaml states wins over the run's preparation. Raises InputError: no such
    domain, no image in it, an image that cannot be read.
    """
    domain = load_domain(source, masks=False)
    entry = next((entry for entry in record.domains if entry.name == domain.name), record.domains[-1])
    preparation = preparation_as(domain, entry)
    fallback_um = entry.preparation.pixel_size_um
    fields = []
    for item in evenly(domain.fields, MAX_FIELDS):
        try:
            with open_prepared(item.image, preparation, record.grid, fallback_pixel_size_um=fallback_um) as prepared:
                fields.append(Field(item.name, prepared.whole()))
        except FieldError as error:
            raise InputError(f"--calibrate: {error}") from error
    return FieldSet(domain.name, tuple(fields))


def calibration_tiles(fields: Sequence[Field], stride: int) -> list[NDArray[np.uint8]]:
    """At most CALIBRATION_TILES tiles, uint8 (1, 1, H, W), evenly spread over the fields."""
    tiles = []
    for field in fields:
        height, width = field.pixels.shape
        for tile in plan_tiles(height, width, stride, 0, max(CALIBRATION_TILE_PX, stride**2)):
            tiles.append(_cut(field, tile))
    return evenly(tiles, CALIBRATION_TILES)


def stitched(
    field: Field, stride: int, halo_px: int, run: Callable[[NDArray[np.uint8]], Sequence[NDArray[np.uint8]]]
) -> tuple[NDArray[np.uint8], ...]:
    """What `run` says about a whole field: for a tile uint8 (1, 1, H, W) arrays (..., H, W), stitched to (..., h, w)."""
    height, width = field.pixels.shape
    plan = plan_tiles(height, width, stride, halo_px, MAX_TILE_PX)
    return predict_tiled(field.pixels, plan, lambda pixels: run(pixels[None, None]))


def evenly(items: Sequence[T], most: int) -> list[T]:
    """At most `most` items, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[index * len(items) // most] for index in range(most)]


def _cut(field: Field, tile: Tile) -> NDArray[np.uint8]:
    height, width = field.pixels.shape
    return extract(lambda start, stop: field.pixels[start:stop], tile, height, width)[None, None]
