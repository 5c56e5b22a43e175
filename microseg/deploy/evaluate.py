"""`microseg evaluate ENGINE DOMAIN`: an engine on whole fields, tiled as `segment` tiles them, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.evaluation.scoring import Prediction, evaluation, score_fields
from microseg.core.preparation.prepared_field import PreparedField
from microseg.deploy.pipeline.tile_memory import max_tile_pixels
from microseg.runtime import Engine, EngineFile, open_engine
from microseg.runtime.tiled_prediction import label_field


def evaluate_engine(
    path: Path, source: Path, domain_name: str | None = None, progress: Callable[[str], None] = lambda name: None
) -> dict[str, Any]:
    """Score an engine on a labelled domain.

    Args:
        path: the engine's file.
        source: the domain: its folder or YAML file.
        domain_name: name of the engine's domain to measure as; None for its default.
        progress: gets the name of each field.

    Returns:
        The content of the command's JSON, as `core.evaluation.scoring.evaluation` describes it.

    Raises:
        InputError: wrong domain or engine, or the engine's file changes.
    """
    with EngineFile(path).unchanged() as file:
        engine = open_engine(file.require_intact())
    with engine:
        return evaluate_opened(engine, path.stat().st_size, source, domain_name, progress)


def evaluate_opened(
    engine: Engine, engine_bytes: int, source: Path, domain_name: str | None, progress: Callable[[str], None]
) -> dict[str, Any]:
    """Score an engine that is open. `engine_bytes` is the size of its file; the rest is as in `evaluate_engine`."""
    manifest = engine.manifest
    try:
        entry = manifest.domain(domain_name)
    except ValueError as error:
        raise InputError(f"--as {error}.") from error
    largest = max_tile_pixels(manifest, engine_bytes, None)
    trained_on = {field.sha256 for field in manifest.training_fields}

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        labels, votes = label_field(engine, prepared.whole(), largest)
        return Prediction(labels, dict(enumerate(votes)), seen=sha256 in trained_on)

    scores = score_fields(
        load_domain(source),
        entry,
        manifest.grid,
        manifest.phases,
        predict,
        progress,
        trained=manifest.known_pixel_sizes,
    )
    return evaluation(scores, manifest.phases)
