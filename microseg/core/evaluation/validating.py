"""From scores of labelled fields to a validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.schema import FieldAlarm
from microseg.core.domains.domain import load_domain, preparation_as
from microseg.core.errors import InputError
from microseg.core.evaluation.scoring import FieldScore, Prediction, score_fields
from microseg.core.images.pixel_size import PixelSize
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import PhaseInfo, TrainingField
from microseg.core.schemas.preparation import PixelSizeRange, Preparation
from microseg.core.schemas.run import RunRecord
from microseg.core.schemas.validation import SpreadTerm, Validation, ValidationField


def field_of(score: FieldScore, fold: int | None = None, alarm: FieldAlarm | None = None) -> ValidationField | None:
    """A scored field as a validation holds it; None where nothing of it is labelled.

    Args:
        score: its score.
        fold: of a cross-validation: the fold that held it out and found.
        alarm: what the engine's alarm says of it; None where no alarm looked at it.
    """
    confusion = score.bag if fold is None else score.folds[fold]
    if not confusion.any():
        return None
    return ValidationField(
        name=score.name,
        sha256=score.sha256,
        group=score.group,
        fold=fold,
        pixel_size_um=own_edge_um(score.pixel_size),
        confusion=confusion.tolist(),
        alarm=alarm,
    )


def own_edge_um(size: PixelSize | None) -> float | None:
    """Edge of a field's native pixel along a row, µm; None where nothing states it for this field."""
    return None if size is None or size.is_assumed else size.width_um


def new_validation(
    kind: Literal["validated", "cross-validated"],
    fields: Sequence[ValidationField],
    *,
    domain: str,
    preparation: Preparation,
    phases: Sequence[PhaseInfo],
    weights_sha256: Sequence[str],
    source: str,
    network_sha256: str | None = None,
    repeatability: SpreadTerm | None = None,
    annotators: SpreadTerm | None = None,
    alarm_sha256: str | None = None,
) -> Validation:
    """A validation of today. Arguments as the keys of `Validation`; it spans the pixel sizes of the fields."""
    edges = [field.pixel_size_um for field in fields]
    known = [edge for edge in edges if edge is not None]
    return Validation(
        kind=kind,
        network_sha256=network_sha256,
        weights_sha256=list(weights_sha256),
        domain=domain,
        preparation=preparation,
        phases=[phase.name for phase in phases],
        pixel_sizes=PixelSizeRange.spanning(*known) if known and len(known) == len(edges) else None,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        microseg=version("microseg"),
        source=source,
        fields=list(fields),
        repeatability=repeatability,
        annotators=annotators,
        alarm_sha256=alarm_sha256,
    )


def held_out_fields(record: RunRecord) -> Mapping[str, TrainingField]:
    """The labelled fields that exactly one fold of a run did not learn from, by their SHA-256.

    Empty where folds hold out blocks of fields: a fold that learned the rest of a field is no stranger to it. A field whose
    copy another fold held out, or which a continued run had learned, is left out.
    """
    if record.blocks or record.distillation is not None:
        return {}
    folds: dict[str, set[int]] = {}
    for field in record.fields:
        folds.setdefault(field.sha256, set()).add(field.fold)
    return {field.sha256: field for field in record.fields if field.fold >= 0 and len(folds[field.sha256]) == 1}


def cross_validation_of(
    record: RunRecord,
    source: Path,
    weights_sha256: Sequence[str],
    label: Callable[[PreparedField, int], NDArray[np.uint8]],
    progress: Callable[[str], None] = lambda name: None,
) -> Validation | None:
    """What each fold of a run finds on the fields that it held out, counted on their native grids.

    Args:
        record: the run's record.
        source: its labelled domain.
        weights_sha256: SHA-256 of the weights of each fold.
        label: `label(prepared, fold)` gives the labels uint8 (h, w) of a field by one fold, on the network's grid.
        progress: gets the name of each field.

    Returns:
        The cross-validation; None where no fold held out whole fields with labels.

    Raises:
        InputError: the domain is gone, is no longer that of the training, or cannot be read.
    """
    held = held_out_fields(record)
    if not held:
        return None
    domain = load_domain(source)
    names = {field.name for field in held.values()}
    domain = replace(domain, fields=tuple(field for field in domain.fields if field.name in names))

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        if sha256 not in held:
            raise InputError(f"{prepared.path}: is no longer the file of the training. Remedy: put it back.")
        fold = held[sha256].fold
        labels = label(prepared, fold)
        return Prediction(labels, {fold: labels}, seen=False)

    scores = score_fields(domain, record.domain, record.grid, record.phases, predict, progress)
    found = [field_of(score, held[score.sha256].fold) for score in scores]
    fields = [field for field in found if field is not None]
    return (
        new_validation(
            "cross-validated",
            fields,
            domain=record.domain.name,
            preparation=preparation_as(domain, record.domain),
            phases=record.phases,
            weights_sha256=weights_sha256,
            source=source.name,
        )
        if fields
        else None
    )
