"""The fractions of a target, estimated without its labels in three ways. Where they disagree, none can be relied on.

Counting finds what the bag labels. Corrected counting takes out of it what the folds make of the source's held-out fields. EMQ
weights the folds' probabilities. The first is right where the networks err as often in one direction as in the other, the
second where they err on the target as at home, the third where the phases look as at home and only their fractions differ.
Another etchant breaks all three, in different ways.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.evaluation.metrics import confusion_matrix
from microseg.core.schemas.run import FractionEstimates
from microseg.core.statistics.response import fit_response
from microseg.core.statistics.sampling import prediction_limit
from microseg.core.statistics.simplex import solve_on_simplex
from microseg.core.statistics.unlabelled.label_shift import (
    fitted_temperature,
    largest_disagreement,
    shifted_fractions,
    tempered,
)
from microseg.core.statistics.validation_sample import from_confusions
from microseg.train.common.prediction import predict_field
from microseg.train.uda.bags import Bag
from microseg.train.uda.context import AdaptationContext

# Estimates that differ by less are alike: an error of 2 points is what the alarm calls large.
LEAST_DISAGREEMENT = 0.02
# Neighbouring pixels tell the same. Temperature and EMQ take about so many of a field.
_SAMPLES = 20_000


@dataclass(frozen=True)
class HeldOut:
    """A field of the source by the fold that did not learn from it.

    fold: The fold's place in the bag.
    group: What the field shares with others.
    confusion: Pixels by true (row) and found phase (column), int64 (P, P).
    samples: Probabilities of some labelled pixels, float64 (N, P).
    labels: Their phases, uint8 (N,).
    """

    fold: int
    group: str
    confusion: NDArray[np.int64]
    samples: NDArray[np.float64]
    labels: NDArray[np.uint8]

    @property
    def found(self) -> NDArray[np.float64]:
        """Fractions that the fold finds over the labelled pixels, float64 (P,)."""
        return np.asarray(self.confusion.sum(0) / self.confusion.sum())


@dataclass(frozen=True)
class TargetView:
    """A view of the target by every fold.

    found: Fractions, float64 (F, P), 0-1.
    samples: Probabilities of some pixels, float64 (F, N, P).
    """

    found: NDArray[np.float64]
    samples: NDArray[np.float64]


@dataclass(frozen=True)
class _Calibration:
    """What held-out fields tell of probabilities.

    temperature: Of the probabilities.
    known: Mean probabilities at that temperature, float64 (P,).
    """

    temperature: float
    known: NDArray[np.float64]

    def emq(self, samples: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractions (P,) of pixels with these probabilities, float64 (N, P)."""
        return shifted_fractions(tempered(samples, self.temperature), self.known)


def held_out_fields(context: AdaptationContext, bag: Bag) -> list[HeldOut]:
    """The labelled fields of the source by the folds of a bag that did not learn from them.

    Args:
        context: The adaptation context.
        bag: The bag.
    """
    found = []
    for place, (network, fold) in enumerate(zip(bag.networks, context.folds, strict=True)):
        for field in context.unseen(fold):
            soft, _ = predict_field([network], field.image, context.record.stride, context.source.halo_px)
            labels = field.labels
            known = np.flatnonzero(labels.ravel() != UNLABELLED)
            if len(known) == 0:
                continue
            sampled = known[:: max(1, len(known) // _SAMPLES)]
            confusion = confusion_matrix(labels, soft[0].argmax(0).astype(np.uint8), context.phases)
            samples = soft[0].reshape(context.phases, -1).T[sampled].astype(np.float64)
            found.append(HeldOut(place, field.field.group, confusion, samples, labels.ravel()[sampled]))
    return found


def target_view(softs: Sequence[NDArray[np.float32]]) -> TargetView:
    """A view of the target.

    Args:
        softs: Probabilities of each fold, float32 (P, h, w).
    """
    phases, height, width = softs[0].shape
    counts = [np.bincount(soft.argmax(0).ravel(), minlength=phases) / (height * width) for soft in softs]
    step = max(1, height * width // _SAMPLES)
    samples = np.stack([soft.reshape(phases, -1).T[::step].astype(np.float64) for soft in softs])
    return TargetView(np.array(counts), samples)


def estimated_fractions(
    names: Sequence[str], counted: NDArray[np.float64], target: Sequence[TargetView], source: Sequence[HeldOut]
) -> FractionEstimates | None:
    """Estimate the fractions of a target beside what a bag counts.

    Args:
        names: Names of the phases.
        counted: Fractions that the bag counts on the views, float64 (P,), 0-1.
        target: The views, by every fold.
        source: The held-out fields of the source.

    Returns:
        The estimates with their disagreement, and what of it the held-out fields explain; None where a fold held out nothing.
    """
    places = range(len(target[0].found))
    calibrations = {place: _calibrated([field for field in source if field.fold == place]) for place in places}
    known = {place: item for place, item in calibrations.items() if item is not None}
    if len(known) < len(places):
        return None
    corrected = _corrected(np.mean([view.found.mean(0) for view in target], axis=0), source)
    emq = np.mean([known[fold].emq(np.concatenate([view.samples[fold] for view in target])) for fold in places], axis=0)
    explained = prediction_limit(_at_home(source, known))
    return FractionEstimates(
        corrected=dict(zip(names, corrected.tolist(), strict=True)),
        emq=dict(zip(names, emq.tolist(), strict=True)),
        temperatures=[known[fold].temperature for fold in places],
        disagreement=largest_disagreement(np.stack([counted, corrected, emq])),
        limit=max(LEAST_DISAGREEMENT, explained or 0.0),
    )


def _calibrated(fields: Sequence[HeldOut]) -> _Calibration | None:
    if not fields:
        return None
    samples = np.concatenate([field.samples for field in fields])
    temperature = fitted_temperature(samples, np.concatenate([field.labels for field in fields]))
    return _Calibration(temperature, tempered(samples, temperature).mean(0))


def _corrected(found: NDArray[np.float64], source: Sequence[HeldOut]) -> NDArray[np.float64]:
    sample = from_confusions(np.stack([field.confusion for field in source]), [field.group for field in source])
    return solve_on_simplex(fit_response(sample).matrix, found)


def _at_home(source: Sequence[HeldOut], known: dict[int, _Calibration]) -> list[float]:
    """The disagreement on each held-out field, with what the other folds' held-out fields tell; none for a single fold."""
    found = []
    for field in source if len(known) > 1 else ():
        others = [item for fold, item in known.items() if fold != field.fold]
        temperature = float(np.exp(np.mean([np.log(item.temperature) for item in others])))
        calibration = _Calibration(temperature, np.mean([item.known for item in others], axis=0))
        corrected = _corrected(field.found, [item for item in source if item.fold != field.fold])
        found.append(largest_disagreement(np.stack([field.found, corrected, calibration.emq(field.samples)])))
    return found
