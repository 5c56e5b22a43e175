"""Whether a gain that is measured on the same fields, fold by fold, is more than chance."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.statistics.student import two_sided_p
from microseg.core.statistics.uncertainty import Component, combine


@dataclass(frozen=True)
class PairedGain:
    """A mean gain and what chance leaves of it.

    Attributes:
        mean: mean over fields and folds.
        standard_error: its standard uncertainty.
        degrees: effective degrees of freedom; infinite where all gains are equal.
        p: probability of a mean gain as large as this one, or larger, where there is none: one-sided, 0-1.
    """

    mean: float
    standard_error: float
    degrees: float
    p: float


def paired_gain(gains: NDArray[np.float64]) -> PairedGain | None:
    """Test a mean gain against none, with fields and folds as crossed random effects.

    Fields are the random unit: a gain on the measured fields counts where it would be found on others of the lot. Every fold
    measures every field, so that folds are crossed with the fields. They are random as well, because another training gives
    other networks. The squared standard error is s_F^2 / F + s_K^2 / K, of the fields' mean gains and of the folds'. This is
    min F' = F1 F2 / (F1 + F2) of Clark (1973, J. Verb. Learn. Verb. Behav. 12, 335-359), here as t = sqrt(min F') with
    Satterthwaite's degrees of freedom. It counts the variance of single values twice, and so errs towards chance. Folds
    share most of their training fields, so that they differ less than trainings on other labels would.

    Few fields: with two, t needs to be above 6; one field tells nothing of others, and there is no test. With one fold the
    fields alone are random.

    Args:
        gains: gain of each field (row) by each fold (column), float64 (F, K).

    Returns:
        The test; None for fewer than two fields.

    Raises:
        ValueError: no table, or a gain that is not finite.
    """
    table = np.asarray(gains, np.float64)
    if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all():
        raise ValueError(f"gains of shape {table.shape}: a table of finite numbers, fields x folds, is needed")
    fields, folds = table.shape
    if fields < 2:
        return None
    mean = float(table.mean())
    parts = [Component("fields", _standard_error(table.mean(1)), fields - 1)]
    if folds > 1:
        parts.append(Component("folds", _standard_error(table.mean(0)), folds - 1))
    total = combine(parts)
    if total.value == 0:
        return PairedGain(mean, 0.0, math.inf, 0.0 if mean > 0 else 1.0)
    outside = two_sided_p(mean / total.value, total.degrees) / 2
    return PairedGain(mean, total.value, total.degrees, outside if mean > 0 else 1 - outside)


def _standard_error(means: NDArray[np.float64]) -> float:
    return float(means.std(ddof=1)) / math.sqrt(len(means))
