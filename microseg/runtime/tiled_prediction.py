"""An engine on a whole prepared field, in the tiles of `segment`."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.measures import FieldProbe
from microseg.core.alarm.predict import FieldJudge
from microseg.core.alarm.schema import FieldAlarm
from microseg.core.preparation.stitching import core_of, predict_tiled
from microseg.core.preparation.tiling import Tile, plan_tiles
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

    return _tiled(image, _plan(engine, image, max_tile_pixels), predict)


def label_and_judge(
    engine: Engine, image: NDArray[np.uint8], max_tile_pixels: int, judge: FieldJudge
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], FieldAlarm | None]:
    """`label_field`, with what an alarm says of the field; None where the field is too small to be judged.

    Args:
        engine: the engine.
        image: the field on the network's grid, uint8 (h, w).
        max_tile_pixels: the most pixels of a tile.
        judge: the engine's alarm.

    Raises:
        FieldError: no tile fits, or the computation fails.
    """
    plan = _plan(engine, image, max_tile_pixels)
    probe = FieldProbe(len(engine.manifest.phases), len(engine.manifest.folds))
    tiles = iter(plan)

    def predict(pixels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        found = engine.run(pixels[None, None], features=True)
        cut = core_of(next(tiles))
        features = None if found.features is None else found.features[0]
        probe.add(pixels[cut], found.labels[0][cut], found.votes[0][:, *cut], features)
        return found.labels[0], found.votes[0]

    labels, votes = _tiled(image, plan, predict)
    measures = probe.measures()
    return labels, votes, None if measures is None else judge.judge(measures)


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

    labels, votes = _tiled(image, _plan(engine, image, max_tile_pixels), predict)
    return labels, votes, np.mean(features, axis=0, dtype=np.float32)


def _plan(engine: Engine, image: NDArray[np.uint8], max_tile_pixels: int) -> list[Tile]:
    manifest = engine.manifest
    height, width = image.shape
    return plan_tiles(height, width, manifest.stride, manifest.halo_px, max_tile_pixels, manifest.max_side_px)


def _tiled(
    image: NDArray[np.uint8],
    plan: list[Tile],
    predict: Callable[[NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and votes of a whole field from those of its tiles."""
    labels, votes = predict_tiled(image, plan, predict)
    return labels, votes
