"""The calibration of an alarm on parts of held-out labelled fields and on graded corruptions of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls
from scipy.special import stdtrit

from microseg.core.alarm.measures import FieldMeasures
from microseg.core.alarm.predict import link
from microseg.core.alarm.schema import GROUPS, PREDICTORS, Alarm, AlarmGroup, Group
from microseg.core.alarm.scores import distances, reference_of, stored

HOME = "home"
# The least error that raises an alarm, 0-1, and the quantile of the errors at home that does where it is more.
_LEAST_ERROR, _QUANTILE = 0.02, 0.95
# Weight of the ridge beside the mean square, in roots of errors 0-1.
_RIDGE = 0.1
# Share of new fields at home that are doubtful, and that are foreign.
_DOUBTFUL, _FOREIGN = 0.005, 0.0005
FEWEST_FIELDS = 5


@dataclass(frozen=True)
class CalibrationPart:
    """A part of a labelled field, as it is or corrupted.

    Attributes:
        field: name of the field.
        kind: HOME, or the kind of corruption.
        measures: what a station knows of it.
        errors: found - true fraction of each phase, by what did not learn from the field, (P,).
    """

    field: str
    kind: str
    measures: FieldMeasures
    errors: NDArray[np.float64]


def calibrated(parts: Sequence[CalibrationPart], domain: str) -> Alarm | None:
    """The alarm of some parts.

    Args:
        parts: uncorrupted and corrupted parts of several fields.
        domain: name of their domain.

    Returns:
        The alarm; None for fewer than five fields: so few do not show how much fields differ.
    """
    home = [part for part in parts if part.kind == HOME]
    names = sorted({part.field for part in home})
    if len(names) < FEWEST_FIELDS:
        return None
    reference = reference_of([part.measures for part in home], len(names))
    # Each field is compared with the others, as a new field will be.
    others = {
        name: reference_of([part.measures for part in home if part.field != name], len(names) - 1) for name in names
    }
    found = [distances(others[part.field], part.measures) for part in parts]
    at_home = [each for each, part in zip(found, parts, strict=True) if part.kind == HOME]
    groups = [group for group in GROUPS if all(group in each for each in found)]
    mean = {group: float(np.mean([each[group] for each in at_home])) for group in groups}
    std = {group: max(float(np.std([each[group] for each in at_home], ddof=1)), 1e-3) for group in groups}
    scores = np.array([[(each[group] - mean[group]) / std[group] for group in groups] for each in found])
    bias = np.mean([part.errors for part in home], axis=0)
    errors = np.array([float(np.abs(part.errors - bias).max()) for part in parts])
    is_home = np.array([part.kind == HOME for part in parts])
    is_predictor = np.array([group in PREDICTORS for group in groups])
    typical = float(np.mean(errors[is_home]))
    weights = fitted(np.where(is_predictor, scores, 0.0), errors, typical)
    intercept = float(np.sqrt(typical))
    roots = intercept + link(scores[is_home]) @ weights
    error_limit = max(_LEAST_ERROR, float(np.quantile(errors[is_home], _QUANTILE)))
    inputs, features = stored(reference)
    return Alarm(
        domain=domain,
        fields=len(names),
        parts=len(home),
        pixels=reference.pixels,
        fractions=reference.fractions.tolist(),
        leverage=reference.leverage.tolist(),
        inputs=inputs,
        features=features,
        groups=_groups(groups, mean, std, weights, scores),
        intercept=intercept,
        bias=bias.tolist(),
        error_limit=error_limit,
        doubtful=max(error_limit, _limit(roots, len(names), _DOUBTFUL)),
        foreign=max(2 * error_limit, _limit(roots, len(names), _FOREIGN)),
    )


def fitted(scores: NDArray[np.float64], errors: NDArray[np.float64], at_home: float) -> NDArray[np.float64]:
    """Weights of the root of the error on the linked scores: least squares with a ridge and no negative weight.

    Args:
        scores: distances in standard deviations, (n, groups).
        errors: absolute errors, 0-1, (n,).
        at_home: the error at home, 0-1, to which the scores add.
    """
    ridge = np.sqrt(_RIDGE * len(scores)) * np.eye(scores.shape[1])
    wanted = np.concatenate([np.sqrt(errors) - np.sqrt(at_home), np.zeros(len(ridge))])
    return np.asarray(nnls(np.vstack([link(scores), ridge]), wanted)[0])


def _groups(
    groups: Sequence[Group],
    mean: Mapping[Group, float],
    std: Mapping[Group, float],
    weights: NDArray[np.float64],
    scores: NDArray[np.float64],
) -> list[AlarmGroup]:
    return [
        AlarmGroup(
            group=group,
            mean=mean[group],
            std=std[group],
            weight=float(weights[index]),
            largest=max(0.0, float(scores[:, index].max())),
        )
        for index, group in enumerate(groups)
    ]


def _limit(roots: NDArray[np.float64], fields: int, share: float) -> float:
    """The predicted error that this share of new fields at home exceeds, by a t-distributed root of the predicted error."""
    factor = float(stdtrit(fields - 1, 1 - share)) * np.sqrt(1 + 1 / fields)
    return float((roots.mean() + factor * roots.std(ddof=1)) ** 2)
