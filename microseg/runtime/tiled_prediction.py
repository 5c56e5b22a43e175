"""An engine on a whole prepared field, in the tiles of `segment`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from microseg.core.preparation.stitching import predict_tiled
from microseg.core.preparation.tiling import plan_tiles
from microseg.runtime import Engine


def label_field(
    engine: Engine, image: NDArray[np.uint8], max_tile_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Label a whole field.

    Args:
        engine: the engine.
        image: the field on the network's grid, uint8 (h, w).
        max_tile_pixels: the most pixels of a tile.

    Returns:
        Labels uint8 (h, w) and votes uint8 (F, h, w).

    Raises:
        FieldError: no tile fits, or the computation fails.
    """

    def predict(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        found = engine.run(pixels[None, None])
        return found.labels[0], found.votes[0]

    return _tiled(engine, image, max_tile_pixels, predict)


def label_field_with_features(
    engine: Engine, image: NDArray[np.uint8], max_tile_pixels: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """`label_field`, with the bottleneck features of each fold: the mean over the tiles, float32 (F, D).

    Args:
        engine: the engine.
        image: the field on the network's grid, uint8 (h, w).
        max_tile_pixels: the most pixels of a tile.

    Raises:
        FieldError: no tile fits, or the computation fails.
    """
    features: list[NDArray[np.float32]] = []

    def predict(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        found = engine.run(pixels[None, None], features=True)
        assert found.features is not None
        features.append(found.features[0])
        return found.labels[0], found.votes[0]

    labels, votes = _tiled(engine, image, max_tile_pixels, predict)
    return labels, votes, np.mean(features, axis=0, dtype=np.float32)


def _tiled(
    engine: Engine,
    image: NDArray[np.uint8],
    max_tile_pixels: int,
    predict: Callable[[NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and votes of a whole field from those of its tiles."""
    manifest = engine.manifest
    height, width = image.shape
    plan = plan_tiles(height, width, manifest.stride, manifest.halo_px, max_tile_pixels, manifest.max_side_px)
    labels, votes = predict_tiled(image, plan, predict)
    return labels, votes
