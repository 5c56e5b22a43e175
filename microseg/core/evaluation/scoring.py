"""Scores of whole fields on the native grid, of runs and engines alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import Domain, DomainField, native_labels, preparation_as
from microseg.core.domains.phases import UNLABELLED
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.evaluation.baseline import MAX_OTSU_PHASES, assign, best_assignment, otsu_classes
from microseg.core.evaluation.metrics import confusion_matrix, fractions, iou, mean_iou
from microseg.core.images.pixel_size import PixelSize, source_of
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.preparation.prepared_field import PreparedField, labels_to_native
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange, Preparation
from microseg.core.system.files import sha256_of

BOOTSTRAP_DRAWS = 2000


@dataclass(frozen=True)
class Prediction:
    """The labels of one field on the network's grid.

    Attributes:
        labels: the bag's, uint8 (h, w).
        folds: those of each fold, by its number; 255 where it is not scored.
        seen: whether every fold that decided was trained on the field.
        notices: what the user should know about the scores of the field.
    """

    labels: NDArray[np.uint8]
    folds: dict[int, NDArray[np.uint8]]
    seen: bool
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class FieldScore:
    """Confusion matrices of one field, each int64 (P, P).

    Attributes:
        name: name of the field.
        seen: whether every fold that decided was trained on the field.
        bag: of the bag.
        folds: of each fold, by its number.
        grey_classes: true phase by grey class of the baseline; None for too many phases.
        pixel_size: size of a native pixel, or None.
        notices: what the user should know about its scale and its scores.
        sha256: SHA-256 of its file, 64 hex digits.
        group: its specimen or spot.
    """

    name: str
    seen: bool
    bag: NDArray[np.int64]
    folds: dict[int, NDArray[np.int64]]
    grey_classes: NDArray[np.int64] | None
    pixel_size: PixelSize | None = None
    notices: tuple[str, ...] = ()
    sha256: str = ""
    group: str = ""


Predict = Callable[[PreparedField, str], Prediction]


def score_fields(
    domain: Domain,
    entry: DomainEntry,
    grid: Grid,
    phases: Sequence[PhaseInfo],
    predict: Predict,
    progress: Callable[[str], None] = lambda name: None,
    trained: PixelSizeRange | None = None,
) -> list[FieldScore]:
    """Score every labelled field of a domain. What the domain.yaml states wins over `entry`.

    Args:
        domain: the domain.
        entry: the domain of the run or engine that the fields are prepared as.
        grid: the network's pixel grid.
        phases: the phases of the run or engine.
        predict: `predict(prepared, sha256)` labels a field on the network's grid.
        progress: called with the name of each field before it is read.
        trained: pixel sizes that the run or engine was trained on, for notices; None: unknown.

    Raises:
        InputError: no labels, unknown phases, or a field that cannot be read.
    """
    if domain.phases_inferred:
        domain = domain.with_phases(phases)
    to_engine = phase_table(domain, phases)
    preparation = preparation_as(domain, entry)
    scores = []
    for field in domain.fields:
        progress(field.name)
        scores.append(
            _score_field(
                domain,
                field,
                to_engine,
                len(phases),
                preparation=preparation,
                scale=ScaleRules(assumed=assumed_size(entry, grid), trained=trained),
                grid=grid,
                predict=predict,
            )
        )
    return scores


def _score_field(
    domain: Domain,
    field: DomainField,
    to_engine: NDArray[np.uint8],
    phases: int,
    *,
    preparation: Preparation,
    scale: ScaleRules,
    grid: Grid,
    predict: Predict,
) -> FieldScore:
    cropped = replace(domain, preparation=preparation)
    try:
        with open_field(field, preparation, grid, scale) as prepared:
            truth = to_engine[native_labels(field, cropped, prepared)]
            sha256 = sha256_of(field.image)
            prediction = predict(prepared, sha256)
            native = prepared.filled_rows(0, prepared.native_shape[0])
            on_scale = tuple(str(notice) for notice in prepared.notices if notice.kind == "pixel size")
            notices = (*on_scale, *prediction.notices)
    except FieldError as error:
        raise InputError(str(error)) from error
    shape = truth.shape

    def against(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
        native = labels_to_native(labels, (shape[0], shape[1]))
        return confusion_matrix(np.where(native == UNLABELLED, np.uint8(UNLABELLED), truth), native, phases)

    bag = against(prediction.labels)
    folds = {k: bag if labels is prediction.labels else against(labels) for k, labels in prediction.folds.items()}
    grey = confusion_matrix(truth, otsu_classes(native, phases), phases) if phases <= MAX_OTSU_PHASES else None
    return FieldScore(
        name=field.name,
        seen=prediction.seen,
        bag=bag,
        folds=folds,
        grey_classes=grey,
        pixel_size=prepared.pixel_size,
        notices=notices,
        sha256=sha256,
        group=field.group,
    )


def evaluation(scores: Sequence[FieldScore], phases: Sequence[PhaseInfo]) -> dict[str, Any]:
    """The JSON of `microseg evaluate`: pooled scores of the bag, then fields, folds and the baseline.

    `confusion` counts pixels, rows by true phase and columns by found phase. IoU of a phase that neither truth nor prediction
    holds is null and left out of the mean. `error` is the mean absolute difference of the fractions over the fields, 0-1.
    `spread` is the central 95 % of a bootstrap over fields.

    Args:
        scores: scores of the fields.
        phases: the phases.
    """
    names = [phase.name for phase in phases]
    pooled = sum((score.bag for score in scores), np.zeros((len(names), len(names)), np.int64))
    result = _summary(pooled, [score.bag for score in scores], names)
    result["confusion"] = pooled.tolist()
    result["spread"] = _bootstrap([score.bag for score in scores], names)
    result["fields"] = [
        {"name": score.name, "seen_in_training": score.seen, **_summary(score.bag, [score.bag], names), **_scale(score)}
        for score in scores
    ]
    result["folds"] = _folds(scores, names)
    result["baseline"] = _baseline(scores, names)
    return result


def _scale(score: FieldScore) -> dict[str, Any]:
    """Pixel size of a field with its source. A size that is only assumed is not printed as the field's."""
    size = score.pixel_size
    own = None if size is None or size.is_assumed else size
    return {
        "pixel_size_um": None if own is None else own.width_um,
        "pixel_height_um": None if own is None else own.height_um,
        "pixel_size_source": source_of(size),
        "notices": list(score.notices),
    }


def rdt(target_miou: float | None, source_miou: float | None) -> float | None:
    """Relative performance drop on a target: (mIoU_target - mIoU_source) / mIoU_source (Goetz et al. 2022).

    Args:
        target_miou: mIoU on the target, 0-1, or None.
        source_miou: mIoU on the source, 0-1, or None.

    Returns:
        The drop; None where a score is undefined or the source's is 0.
    """
    if target_miou is None or not source_miou:
        return None
    return (target_miou - source_miou) / source_miou


def _summary(pooled: NDArray[np.int64], per_field: Sequence[NDArray[np.int64]], names: Sequence[str]) -> dict[str, Any]:
    true, predicted = fractions(pooled)
    errors = [np.abs(np.subtract(*fractions(field))) for field in per_field if field.sum()]
    error = np.mean(errors, axis=0) if errors else np.full(len(names), np.nan)
    return {
        "miou": _number(mean_iou(pooled)),
        "iou": {name: _number(value) for name, value in zip(names, iou(pooled), strict=True)},
        "fractions": {
            name: {"true": _number(true[i]), "predicted": _number(predicted[i]), "error": _number(error[i])}
            for i, name in enumerate(names)
        },
    }


def _folds(scores: Sequence[FieldScore], names: Sequence[str]) -> dict[str, Any]:
    each = []
    for k in sorted({k for score in scores for k in score.folds}):
        fields = [score.folds[k] for score in scores if k in score.folds]
        pooled = sum(fields, np.zeros((len(names), len(names)), np.int64))
        each.append({"fold": k, "fields": len(fields), **_summary(pooled, fields, names)})
    mious = [fold["miou"] for fold in each if fold["miou"] is not None]
    return {
        "each": each,
        "miou_mean": fmean(mious) if mious else None,
        "miou_std": stdev(mious) if len(mious) > 1 else None,
    }


def _baseline(scores: Sequence[FieldScore], names: Sequence[str]) -> dict[str, Any] | None:
    fields = [score.grey_classes for score in scores if score.grey_classes is not None]
    if not fields:
        return None
    pooled = sum(fields, np.zeros((len(names), len(names)), np.int64))
    order = best_assignment(pooled)
    title = "Otsu" if len(names) == 2 else "multi-Otsu"
    return {"name": title, **_summary(assign(pooled, order), [assign(field, order) for field in fields], names)}


def _bootstrap(fields: Sequence[NDArray[np.int64]], names: Sequence[str]) -> dict[str, Any]:
    """2.5 and 97.5 percentile of the pooled scores over fields drawn with replacement (Efron 1979)."""
    rng = np.random.default_rng(0)
    stack = np.stack(fields)
    draws = rng.integers(len(fields), size=(BOOTSTRAP_DRAWS, len(fields)))
    values, mious = np.empty((BOOTSTRAP_DRAWS, len(names))), np.empty(BOOTSTRAP_DRAWS)
    for index, draw in enumerate(draws):
        # One at a time: of many phases, all matrices together take a gigabyte.
        pooled = np.tensordot(np.bincount(draw, minlength=len(fields)), stack, 1)
        values[index], mious[index] = iou(pooled), mean_iou(pooled)
    return {
        "miou": _interval(mious),
        "iou": {name: _interval(values[:, i]) for i, name in enumerate(names)},
    }


def _interval(values: NDArray[np.float64]) -> list[float] | None:
    known = values[np.isfinite(values)]
    return [float(v) for v in np.percentile(known, [2.5, 97.5])] if known.size else None


def phase_table(domain: Domain, phases: Sequence[PhaseInfo]) -> NDArray[np.uint8]:
    """Lookup uint8 (256,) from the domain's phase index to that of a run or an engine, by name.

    Args:
        domain: a labelled domain.
        phases: the phases of the run or engine.

    Raises:
        InputError: no labels, or a phase that the run or engine does not know.
    """
    known = [phase.name for phase in phases]
    if not domain.phases:
        raise InputError(f"{domain.source}: has no labels to score against. Remedy: give a domain with masks.")
    unknown = [phase.name for phase in domain.phases if phase.name not in known]
    if unknown:
        raise InputError(
            f"{domain.source}: phase {unknown[0]!r} is none of the model's phases ({', '.join(known)}). "
            "Remedy: use the model's names under `phases` in domain.yaml."
        )
    table = np.full(256, UNLABELLED, np.uint8)
    for index, phase in enumerate(domain.phases):
        table[index] = known.index(phase.name)
    return table


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
