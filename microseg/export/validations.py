"""The validations that an engine carries: the cross-validation of its folds, and that of `export --validate`."""

from __future__ import annotations

from pathlib import Path

from microseg.agreement.validating import cross_validated, measured_as, refuse_trained, validated_by_masks
from microseg.core.domains.domain import load_domain
from microseg.core.errors import InputError
from microseg.core.schemas.bag import TrainingField
from microseg.core.schemas.run import RunRecord, RunSummary
from microseg.core.schemas.validation import CROSS_VALIDATION_FILE, Validation, read_validation
from microseg.export.calibration_fields import MAX_TILE_PX
from microseg.export.progress import ExportProgress
from microseg.runtime import open_engine


def refuse_trained_fields(source: Path | None, trained: list[TrainingField]) -> None:
    """Raise InputError where a run learned from a field that is to validate it, before anything long is computed.

    Args:
        source: the labelled domain of `--validate`, or None.
        trained: the fields that the run learned from.
    """
    if source is not None:
        refuse_trained(trained, source, {field.name: field.image for field in load_domain(source).fields})


def validations_of(
    draft: Path,
    kept: Validation | None,
    record: RunRecord,
    validate: Path | None,
    progress: ExportProgress,
) -> list[Validation]:
    """The validations of an engine.

    The cross-validation is the one that the run keeps. The folds of a run of an earlier version find their held-out fields
    now, where these are still in place.

    Args:
        draft: the engine's file, finished apart from this.
        kept: the cross-validation that the run keeps, or None.
        record: the run's record.
        validate: labelled fields that trained nothing, or None.
        progress: receives notices.

    Raises:
        InputError: `validate` cannot be used.
    """
    found = []
    folds = kept
    with open_engine(draft, device="cpu", runtime="onnxruntime") as engine:
        if folds is None:
            try:
                folds = cross_validated(engine, record, MAX_TILE_PX)
            except InputError as error:
                progress.notice(
                    f"without cross-validation: {error} Reports will claim no interval by it; `microseg validate` gives one."
                )
        if validate is not None:
            entry = measured_as(engine.manifest, load_domain(validate))
            progress.notice(f"{validate}: validates the engine for reports of the domain {entry.name!r}")
            found.append(validated_by_masks(engine, validate, entry, MAX_TILE_PX))
        network = engine.manifest.network_sha256
    carried = [*found, *([folds] if folds is not None else [])]
    return [each.model_copy(update={"network_sha256": network, "sha256": None}) for each in carried]


def kept_cross_validation(run: Path, record: RunRecord, summary: RunSummary) -> Validation | None:
    """The cross-validation that a run keeps of these very weights; None where it keeps none.

    Args:
        run: folder of the run.
        record: its record.
        summary: its summary.

    Raises:
        InputError: the file is damaged or was changed.
    """
    path = run / CROSS_VALIDATION_FILE
    if not path.is_file():
        return None
    found = read_validation(
        path, "copy the run again, or remove the file: export computes it where the fields are in place"
    )
    student = record.distillation
    weights = student.weights_sha256 if student else [fold.weights_sha256 for fold in summary.folds]
    return found if found.weights_sha256 == weights else None
