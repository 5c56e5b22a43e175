"""`microseg evaluate ENGINE DOMAIN`: an engine on whole fields, tiled as `segment` tiles them, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from microseg.core.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.preparation import PreparedField
from microseg.core.scoring import Prediction, evaluation, score_fields
from microseg.core.tiling import extract, plan_tiles
from microseg.deploy.segment import max_tile_pixels
from microseg.runtime import open_engine


def evaluate_engine(
    path: Path, source: Path, domain_name: str | None = None, progress: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """The evaluation (core/scoring) of an engine on a labelled domain. Raises InputError."""
    engine = open_engine(path)
    manifest = engine.manifest
    try:
        entry = manifest.domain(domain_name)
    except KeyError as error:
        raise InputError(f"--as {error.args[0]}.") from error
    largest = max_tile_pixels(manifest, path.stat().st_size, None)
    trained_on = {field.sha256 for field in manifest.training_fields}
    folds = len(manifest.folds)

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        height, width = prepared.shape
        image = prepared.rows(0, height)
        labels = np.empty((height, width), np.uint8)
        votes = np.empty((folds, height, width), np.uint8)
        for tile in plan_tiles(height, width, manifest.stride, manifest.halo_px, largest, manifest.max_side_px):
            out = engine.run(extract(lambda start, stop: image[start:stop], tile, height, width)[None, None])
            y, x = tile.core_top - tile.top, tile.core_left - tile.left
            inner = np.s_[..., y : y + tile.core_height, x : x + tile.core_width]
            outer = np.s_[
                ..., tile.core_top : tile.core_top + tile.core_height, tile.core_left : tile.core_left + tile.core_width
            ]
            labels[outer], votes[outer] = out.labels[0][inner], out.votes[0][inner]
        return Prediction(labels, dict(enumerate(votes)), seen=sha256 in trained_on)

    scores = score_fields(load_domain(source), entry, manifest.grid, manifest.phases, predict, progress)
    return evaluation(scores, manifest.phases)
