"""Writes reference tiles into an engine. `verify` compares with them on the station."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.schemas.keys import REFERENCE_KEY
from microseg.core.schemas.reference import (
    MAX_BYTES,
    Reference,
    ReferenceTile,
    most_telling,
    reference_tile,
)
from microseg.runtime import open_engine
from microseg.runtime.engine_metadata import append_metadata

TILES = 3
SIDE_PX = 256


@dataclass(frozen=True)
class Candidates:
    """Tiles to choose from.

    Attributes:
        origin: `real` only where the owner of the micrographs asked for it.
        tiles: name and pixels of each tile, uint8 (H, W).
    """

    origin: Literal["synthetic", "real"]
    tiles: Sequence[tuple[str, NDArray[np.uint8]]]


def held_out_tiles(run: Path) -> Candidates:
    """Corners of the held-out tiles of a run, at most SIDE_PX a side. Raises InputError where the run holds none."""
    tiles = []
    for path in sorted(run.glob("fold*/parity/*.png")):
        with Image.open(path) as image:
            tiles.append((f"{path.parts[-3]} {path.stem}", np.asarray(image, np.uint8)[:SIDE_PX, :SIDE_PX]))
    if not tiles:
        raise InputError(f"{run}: holds no held-out tiles (fold*/parity). Remedy: train it again.")
    return Candidates("real", tiles)


def add_reference(engine_path: Path, candidates: Candidates) -> None:
    """Run an exported engine on the candidates, and store the tiles with the most balanced phases in it.

    Each tile is stored with the labels and votes of the engine, at most 300 kB in all. The hash of the network does not
    change. The manifest must be final.

    Args:
        engine_path: the .onnx file; a metadata entry is appended.
        candidates: the tiles to choose from.
    """
    with open_engine(engine_path, device="cpu", runtime="onnxruntime") as engine:
        manifest = engine.manifest
        phases, stride = len(manifest.phases), manifest.stride
        pixels = [
            tile[: len(tile) // stride * stride, : tile.shape[1] // stride * stride] for _, tile in candidates.tiles
        ]
        found = [engine.run(np.ascontiguousarray(tile)[None, None]) for tile in pixels]
    chosen: list[ReferenceTile] = []
    for index in most_telling([out.labels[0] for out in found], phases, TILES):
        out = found[index]
        packed = reference_tile(candidates.tiles[index][0], pixels[index], out.labels[0], out.votes[0], phases)
        if not chosen or _size([*chosen, packed]) <= MAX_BYTES:
            chosen.append(packed)
    reference = Reference(
        origin=candidates.origin,
        model_sha256=manifest.model_sha256,
        tiles=chosen,
    )
    append_metadata(engine_path, REFERENCE_KEY, reference.model_dump_json())


def _size(tiles: Sequence[ReferenceTile]) -> int:
    return sum(len(tile.model_dump_json()) for tile in tiles)
