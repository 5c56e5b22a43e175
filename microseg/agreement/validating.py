"""An engine on labelled fields: what it finds there beside what is true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import load_domain, preparation_as
from microseg.core.errors import InputError
from microseg.core.evaluation.scoring import FieldScore, Prediction, score_fields
from microseg.core.evaluation.validating import cross_validation_of, field_of, new_validation
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import TrainingField
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.run import RunRecord
from microseg.core.schemas.validation import Validation
from microseg.core.system.files import sha256_of
from microseg.runtime import Engine
from microseg.runtime.tiled_prediction import label_field

Progress = Callable[[str], None]
_LISTED = 3


def refuse_trained(trained: Iterable[TrainingField], source: Path, files: Mapping[str, Path]) -> None:
    """Raise InputError where an engine learned from one of the files, by their content.

    Args:
        trained: the fields that the engine learned from.
        source: the labelled domain, for the message.
        files: the fields' files by the fields' names.
    """
    hashes = {field.sha256 for field in trained}
    seen = [name for name, path in files.items() if sha256_of(path) in hashes]
    if seen:
        more = f" and {len(seen) - _LISTED} more" if len(seen) > _LISTED else ""
        raise InputError(
            f"{source}: {len(seen)} of {len(files)} fields trained this engine ({', '.join(seen[:_LISTED])}{more}). What it "
            "finds on them says nothing of new fields. Remedy: labelled fields that trained nothing."
        )


def validated_by_masks(
    engine: Engine, source: Path, entry: DomainEntry, max_tile_pixels: int, progress: Progress = lambda name: None
) -> Validation:
    """Validate a bag on the labelled fields of a domain, none of which trained it.

    Args:
        engine: the open engine.
        source: the labelled domain.
        entry: the engine's domain that the fields are measured as.
        max_tile_pixels: the most pixels of a tile.
        progress: gets the name of each field.

    Raises:
        InputError: no labels, other phases, a field that trained the engine or cannot be read, or fields that show one file.
    """
    manifest = engine.manifest
    domain = load_domain(source)
    refuse_trained(manifest.training_fields, source, {field.name: field.image for field in domain.fields})

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        return Prediction(label_field(engine, prepared.whole(), max_tile_pixels)[0], {}, seen=False)

    scores = score_fields(domain, entry, manifest.grid, manifest.phases, predict, progress)
    _refuse_copies(source, scores)
    fields = [field for score in scores if (field := field_of(score)) is not None]
    if not fields:
        raise InputError(f"{source}: no pixel of its fields is labelled. Remedy: masks with phases, or --counts.")
    return new_validation(
        "validated",
        fields,
        domain=entry.name,
        preparation=preparation_as(domain, entry),
        phases=manifest.phases,
        weights_sha256=[fold.weights_sha256 for fold in manifest.folds],
        network_sha256=manifest.network_sha256,
        source=source.name,
    )


def cross_validated(
    engine: Engine, record: RunRecord, max_tile_pixels: int, progress: Progress = lambda name: None
) -> Validation | None:
    """What each fold of an engine finds on the fields that it held out, where they are still where the training found them.

    Args:
        engine: the open engine of the run.
        record: the run's record.
        max_tile_pixels: the most pixels of a tile.
        progress: gets the name of each field.

    Returns:
        The cross-validation; None where no fold held out whole fields.

    Raises:
        InputError: the labelled domain is gone, or can no longer be read.
    """

    def label(prepared: PreparedField, fold: int) -> NDArray[np.uint8]:
        return np.asarray(label_field(engine, prepared.whole(), max_tile_pixels)[1][fold])

    weights = [fold.weights_sha256 for fold in engine.manifest.folds]
    return cross_validation_of(record, Path(record.domain_source), weights, label, progress)


def _refuse_copies(source: Path, scores: list[FieldScore]) -> None:
    first: dict[str, str] = {}
    for score in scores:
        other = first.setdefault(score.sha256, score.name)
        if other != score.name:
            raise InputError(f"{source}: {other} and {score.name} are one file. Remedy: keep one of them.")
