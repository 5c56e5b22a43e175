"""An engine on labelled fields: what it finds there beside what is true."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.predict import FieldJudge
from microseg.core.alarm.schema import FieldAlarm
from microseg.core.domains.domain import Domain, load_domain, preparation_as
from microseg.core.errors import InputError
from microseg.core.evaluation.scoring import FieldScore, Prediction, score_fields
from microseg.core.evaluation.validating import cross_validation_of, field_of, new_validation
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import TrainingField
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.run import RunRecord
from microseg.core.schemas.validation import Validation
from microseg.core.system.files import sha256_of
from microseg.runtime import Engine
from microseg.runtime.tiled_prediction import label_and_judge, label_field

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


def measured_as(manifest: Manifest, domain: Domain, name: str | None = None) -> DomainEntry:
    """The engine's domain that labelled fields are measured as.

    Args:
        manifest: the engine's manifest.
        domain: the labelled fields.
        name: the engine's domain, where the user names it.

    Returns:
        The one that is named, else the one with the name of the labelled domain (`name` of domain.yaml, or the folder), else
        the engine's default.

    Raises:
        InputError: the engine has no domain of the name.
    """
    known = {entry.name for entry in manifest.domains}
    try:
        return manifest.domain(name or (domain.name if domain.name in known else None))
    except ValueError as error:
        raise InputError(f"--as {error}.") from error


class ValidatingEngine:
    """An engine on labelled fields, with its alarm where it looks at their domain.

    Attributes:
        alarm_sha256: SHA-256 of the alarm's calibration; None without an alarm.
    """

    def __init__(self, engine: Engine, entry: DomainEntry, max_tile_pixels: int) -> None:
        """Args:
        engine: the open engine.
        entry: the engine's domain that the fields are measured as.
        max_tile_pixels: the most pixels of a tile.
        """
        alarm = engine.manifest.alarm
        is_judged = alarm is not None and alarm.domain == entry.name
        self._engine, self._largest = engine, max_tile_pixels
        self._judge = FieldJudge(alarm) if alarm is not None and is_judged else None
        self.alarm_sha256 = alarm.sha256 if alarm is not None and is_judged else None

    def label(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], FieldAlarm | None]:
        """Labels uint8 (h, w) of a field on the network's grid, and what the alarm says of it.

        Args:
            image: the field on the network's grid, uint8 (h, w).

        Raises:
            FieldError: no tile fits, or the computation fails.
        """
        if self._judge is None:
            return label_field(self._engine, image, self._largest)[0], None
        labels, _, alarm = label_and_judge(self._engine, image, self._largest, self._judge)
        return labels, alarm


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

    validating = ValidatingEngine(engine, entry, max_tile_pixels)
    alarms: dict[str, FieldAlarm | None] = {}

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        labels, alarms[sha256] = validating.label(prepared.whole())
        return Prediction(labels, {}, seen=False)

    scores = score_fields(domain, entry, manifest.grid, manifest.phases, predict, progress)
    _refuse_copies(source, scores)
    fields = [field for score in scores if (field := field_of(score, alarm=alarms[score.sha256])) is not None]
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
        alarm_sha256=validating.alarm_sha256,
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
