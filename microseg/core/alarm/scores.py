"""How far a field is from the labelled fields, in each group of measures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.measures import FieldMeasures
from microseg.core.alarm.schema import GROUPS, Alarm, AlarmFeatures, AlarmInput, Group

# A feature that is further out tells no more.
_FARTHEST = 20.0
# Slopes are drawn to zero where the labelled fields hardly differ in their fractions: a ridge, as a variance of fractions.
_RIDGE = 0.03**2
# Fewer labelled fields than parts make a standard deviation, and measures of one exact value none.
_LEAST_STD, _LEAST_FEATURE_STD = 0.02, 1e-6
# Groups whose measures count with their sign: only more of them is a sign of errors.
_RELATIVE = ("borders", "folds")
# The further measures are bands of a field, and measures of its phases.
_NAMES: Mapping[Group, tuple[str, ...]] = {
    "borders": ("borders", "pairwise_dice"),
    "folds": ("unsure", "fold_spread"),
    "grey": ("grey_mean", "grey_std", "shading"),
    "structure": ("noise",),
}


@dataclass(frozen=True)
class Reference:
    """Lines of the measures over the found fractions, on the labelled fields.

    Attributes:
        fields: number of labelled fields.
        pixels: pixels of one of their parts.
        fractions: mean found fraction of each phase but the first, (P - 1,).
        leverage: inverse of the fractions' sum of squares, (P - 1, P - 1).
        names: names of the measures.
        groups: their groups.
        mean, slopes, std: of the measures, (n,), (P - 1, n) and (n,).
        feature_mean, feature_slopes, feature_std: of the features, (F, D), (P - 1, F, D) and (F, D); None without features.
    """

    fields: int
    pixels: int
    fractions: NDArray[np.float64]
    leverage: NDArray[np.float64]
    names: tuple[str, ...]
    groups: tuple[Group, ...]
    mean: NDArray[np.float64]
    slopes: NDArray[np.float64]
    std: NDArray[np.float64]
    feature_mean: NDArray[np.float64] | None = None
    feature_slopes: NDArray[np.float64] | None = None
    feature_std: NDArray[np.float64] | None = None


def reference_of(parts: Sequence[FieldMeasures], fields: int) -> Reference:
    """The reference of some parts of labelled fields.

    Args:
        parts: their measures.
        fields: number of fields that they are cut from.
    """
    found = np.array([part.fractions[1:] for part in parts])
    centre = found.mean(0)
    away = found - centre
    leverage = np.linalg.inv(away.T @ away + len(parts) * _RIDGE * np.eye(away.shape[1]))
    names = tuple(parts[0].values)
    mean, slopes, std = _lines(np.array([list(part.values.values()) for part in parts]), away, leverage)
    features: dict[str, NDArray[np.float64]] = {}
    if all(part.features is not None for part in parts):
        stacked = np.array([part.features for part in parts])
        of_features = _lines(stacked.reshape(len(parts), -1), away, leverage)
        features = {
            key: values.reshape(*values.shape[:-1], *stacked.shape[1:])
            for key, values in zip(("feature_mean", "feature_slopes", "feature_std"), of_features, strict=True)
        }
        # A standard deviation over few fields is uncertain: it is drawn to that of the fold's other features.
        std_f = features["feature_std"]
        common = np.maximum(np.median(std_f, axis=1, keepdims=True), _LEAST_FEATURE_STD)
        features["feature_std"] = np.sqrt((std_f**2 + common**2) / 2)
    return Reference(
        fields=fields,
        pixels=round(float(np.mean([part.pixels for part in parts]))),
        fractions=centre,
        leverage=leverage,
        names=names,
        groups=tuple(group_of(name) for name in names),
        mean=mean,
        slopes=slopes,
        std=np.maximum(std, _LEAST_STD),
        **features,
    )


def _lines(
    values: NDArray[np.float64], away: NDArray[np.float64], leverage: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Mean (n,), slopes (P - 1, n) and standard deviation (n,) of values (parts, n)."""
    mean = values.mean(0)
    slopes = leverage @ away.T @ (values - mean)
    left = values - mean - away @ slopes
    return mean, slopes, np.sqrt((left**2).sum(0) / max(len(values) - 1 - away.shape[1], 1))


def group_of(name: str) -> Group:
    """The group of a measure."""
    for group, names in _NAMES.items():
        if name in names:
            return group
    return "structure" if name.startswith("band") else "phases"


def deviations(reference: Reference, field: FieldMeasures) -> dict[str, float]:
    """How far each measure is from the labelled fields of the same fractions, in standard deviations, with its sign."""
    away = field.fractions[1:] - reference.fractions
    values = np.array([field.values.get(name, np.nan) for name in reference.names])
    found = (values - reference.mean - away @ reference.slopes) / (reference.std * _spread(reference, field))
    return dict(zip(reference.names, np.nan_to_num(found).tolist(), strict=True))


def distances(reference: Reference, field: FieldMeasures) -> dict[Group, float]:
    """How far each group of measures is from the labelled fields of the same fractions.

    An error is an area along the borders of phases, so that long borders and disagreement of the folds on them count with their
    sign. Of the others the root mean square over the group counts, because either direction is unknown.
    """
    by_group: dict[Group, list[float]] = {group: [] for group in GROUPS}
    for (_, value), group in zip(deviations(reference, field).items(), reference.groups, strict=True):
        by_group[group].append(value)
    found: dict[Group, float] = {
        group: float(np.mean(values) if group in _RELATIVE else np.sqrt(np.mean(np.square(values))))
        for group, values in by_group.items()
        if values
    }
    if reference.feature_mean is not None and field.features is not None:
        assert reference.feature_slopes is not None and reference.feature_std is not None
        away = field.fractions[1:] - reference.fractions
        line = reference.feature_mean + np.tensordot(away, reference.feature_slopes, 1)
        off = (field.features - line) / (reference.feature_std * _spread(reference, field))
        found["features"] = float(np.sqrt((np.clip(off, -_FARTHEST, _FARTHEST) ** 2).mean(1)).mean())
    return found


def _spread(reference: Reference, field: FieldMeasures) -> float:
    """By how much the prediction of a new field is less certain than a part's standard deviation says.

    The line comes from few fields, and less so beyond their fractions (prediction interval of a regression). Small fields
    vary more than the parts of the calibration.
    """
    away = field.fractions[1:] - reference.fractions
    smaller = max(1.0, reference.pixels / max(field.pixels, 1))
    return float(np.sqrt(smaller + 1 / reference.fields + away @ reference.leverage @ away))


def stored(reference: Reference) -> tuple[list[AlarmInput], list[AlarmFeatures]]:
    """A reference as a manifest holds it, to five digits."""
    inputs = [
        AlarmInput(
            name=name,
            group=reference.groups[index],
            mean=_short(reference.mean[index]),
            slopes=[_short(each) for each in reference.slopes[:, index]],
            std=_short(reference.std[index]),
        )
        for index, name in enumerate(reference.names)
    ]
    if reference.feature_mean is None or reference.feature_slopes is None or reference.feature_std is None:
        return inputs, []
    features = [
        AlarmFeatures(
            mean=[_short(each) for each in reference.feature_mean[fold]],
            slopes=[[_short(each) for each in slopes[fold]] for slopes in reference.feature_slopes],
            std=[_short(each) for each in reference.feature_std[fold]],
        )
        for fold in range(len(reference.feature_mean))
    ]
    return inputs, features


def reference_in(alarm: Alarm) -> Reference:
    """The reference that a manifest holds."""
    features = {}
    if alarm.features:
        features = {
            "feature_mean": np.array([fold.mean for fold in alarm.features]),
            "feature_slopes": np.array([fold.slopes for fold in alarm.features]).swapaxes(0, 1),
            "feature_std": np.array([fold.std for fold in alarm.features]),
        }
    return Reference(
        fields=alarm.fields,
        pixels=alarm.pixels,
        fractions=np.array(alarm.fractions),
        leverage=np.array(alarm.leverage),
        names=tuple(each.name for each in alarm.inputs),
        groups=tuple(each.group for each in alarm.inputs),
        mean=np.array([each.mean for each in alarm.inputs]),
        slopes=np.array([each.slopes for each in alarm.inputs]).T,
        std=np.array([each.std for each in alarm.inputs]),
        **features,
    )


def standardised(found: Mapping[Group, float], alarm: Alarm) -> dict[Group, float]:
    """Distances in standard deviations of those of labelled fields from each other."""
    return {each.group: (found[each.group] - each.mean) / each.std for each in alarm.groups if each.group in found}


def _short(value: float) -> float:
    return float(f"{value:.5g}")
