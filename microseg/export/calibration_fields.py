"""The real fields on which an export calibrates and is compared with torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.domain import load_domain, preparation_as
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.preparation.stitching import predict_tiled
from microseg.core.preparation.tiling import Tile, extract, plan_tiles
from microseg.core.schemas.run import RunRecord

# A float32 bag of five takes seconds for each field on a CPU. More fields show little more about rounding.
MAX_FIELDS = 16
# Pixels of a tile: a field of 1024 x 1024 in one pass, larger fields in tiles.
MAX_TILE_PX = 1_200_000
# For ranges and for the harm of each layer: enough grey values of every phase, and few enough to try every layer.
CALIBRATION_TILES, CALIBRATION_TILE_PX = 12, 1 << 16

T = TypeVar("T")


@dataclass(frozen=True)
class Field:
    """A field on the network's grid.

    Attributes:
        name: of the field.
        pixels: grey values, uint8 (h, w).
    """

    name: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class FieldSet:
    """Fields of one origin.

    Attributes:
        name: of the origin, as the manifest states it.
        fields: the fields.
    """

    name: str
    fields: tuple[Field, ...]


def held_out(run: Path, folders: Sequence[str]) -> FieldSet:
    """The held-out tiles that training keeps beside the networks of a run.

    Args:
        run: folder of the run.
        folders: names of its fold folders.

    Returns:
        The tiles of all folds.

    Raises:
        InputError: the run holds none.
    """
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
    """At most MAX_FIELDS fields of a domain, evenly spread. Labels are not read.

    Args:
        source: folder or YAML file of the domain.
        record: the run. Its domain of the same name sets the preparation, else its last domain. A domain.yaml overrides it.

    Returns:
        The prepared fields.

    Raises:
        InputError: there is no such domain, it holds no image, or an image cannot be read.
    """
    domain = load_domain(source, masks=False)
    entry = next((entry for entry in record.domains if entry.name == domain.name), record.domains[-1])
    preparation = preparation_as(domain, entry)
    rules = ScaleRules(assumed=assumed_size(entry, record.grid))
    fields = []
    for item in evenly(domain.fields, MAX_FIELDS):
        try:
            with open_field(item, preparation, record.grid, rules) as prepared:
                fields.append(Field(item.name, prepared.whole()))
        except FieldError as error:
            raise InputError(f"--calibrate: {error}") from error
    return FieldSet(domain.name, tuple(fields))


def calibration_tiles(fields: Sequence[Field], stride: int) -> list[NDArray[np.uint8]]:
    """At most CALIBRATION_TILES tiles, evenly spread over the fields.

    Args:
        fields: the fields to cut.
        stride: height and width of a tile are multiples of it, px.

    Returns:
        Tiles, each uint8 (1, 1, H, W).
    """
    tiles = []
    for field in fields:
        height, width = field.pixels.shape
        for tile in plan_tiles(height, width, stride, 0, max(CALIBRATION_TILE_PX, stride**2)):
            tiles.append(_cut(field, tile))
    return evenly(tiles, CALIBRATION_TILES)


def stitched(
    field: Field, stride: int, halo_px: int, run: Callable[[NDArray[np.uint8]], Sequence[NDArray[np.uint8]]]
) -> tuple[NDArray[np.uint8], ...]:
    """Compute a whole field tile by tile.

    Args:
        field: the field.
        stride: height and width of a tile are multiples of it, px.
        halo_px: halo of a tile.
        run: gives arrays (..., H, W) for a tile uint8 (1, 1, H, W).

    Returns:
        The arrays over the whole field, (..., h, w).
    """
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
