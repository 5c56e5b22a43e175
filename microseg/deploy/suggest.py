"""`microseg suggest ENGINE FOLDER`: the fields whose labels would help most, by an engine, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.labelling.committee import Committee, Opinion
from microseg.core.labelling.suggest import Suggested, suggest_fields
from microseg.deploy.pipeline.tile_memory import max_tile_pixels
from microseg.runtime import EngineFile, open_engine
from microseg.runtime.tiled_prediction import label_field_with_features


def suggest_with_engine(
    path: Path,
    folder: Path,
    count: int,
    out: Path,
    domain_name: str | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Suggested:
    """Choose fields to label for the run that an engine was exported from. Further errors are those of `suggest_fields`.

    Args:
        path: the engine's file.
        folder: where the fields are.
        count: the most fields to choose.
        out: the folder to write.
        domain_name: the engine's domain that the fields are prepared as; its default by default.
        progress: gets a line on what is under way.

    Raises:
        InputError: wrong domain or engine, or the engine's file changes.
    """
    with EngineFile(path).unchanged() as file:
        engine = open_engine(file.require_intact())
    with engine:
        manifest = engine.manifest
        try:
            entry = manifest.domain(domain_name)
        except ValueError as error:
            raise InputError(f"--as {error}.") from error
        largest = max_tile_pixels(manifest, path.stat().st_size, None)

        def ask(image: NDArray[np.uint8]) -> Opinion:
            return Opinion(*label_field_with_features(engine, image, largest))

        committee = Committee(
            name=str(path),
            phases=manifest.phases,
            entry=entry,
            grid=manifest.grid,
            halo_px=manifest.halo_px,
            folds=len(manifest.folds),
            trained=manifest.known_pixel_sizes,
            fields=manifest.training_fields,
            fingerprints=manifest.fingerprints,
            ask=ask,
        )
        return suggest_fields(committee, folder, count, out, init=manifest.provenance.run, progress=progress)
