"""An engine on a whole prepared field, in the tiles that `segment` would take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microseg.core.preparation.tiling import extract, plan_tiles
from microseg.runtime import Engine


def label_field(
    engine: Engine, image: NDArray[np.uint8], max_tile_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels uint8 (h, w) and votes uint8 (F, h, w) of a field uint8 (h, w) on the network's grid. Raises FieldError."""
    manifest = engine.manifest
    height, width = image.shape
    labels = np.empty((height, width), np.uint8)
    votes = np.empty((len(manifest.folds), height, width), np.uint8)
    for tile in plan_tiles(height, width, manifest.stride, manifest.halo_px, max_tile_pixels, manifest.max_side_px):
        out = engine.run(extract(lambda start, stop: image[start:stop], tile, height, width)[None, None])
        y, x = tile.core_top - tile.top, tile.core_left - tile.left
        inner = np.s_[..., y : y + tile.core_height, x : x + tile.core_width]
        outer = np.s_[
            ..., tile.core_top : tile.core_top + tile.core_height, tile.core_left : tile.core_left + tile.core_width
        ]
        labels[outer], votes[outer] = out.labels[0][inner], out.votes[0][inner]
    return labels, votes
