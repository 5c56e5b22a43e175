"""Phase fractions over fields: mean, confidence interval and relative accuracy of ASTM E562-19, and the spread over folds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from microseg.core.statistics.student import t_quantile_975


@dataclass(frozen=True)
class PhaseStatistics:
    """One phase over n fields. Fractions are 0-1; None where there are too few fields.

    Attributes:
        n: number of fields.
        mean: mean of the fields' fractions.
        std: standard deviation s between fields, with n - 1.
        ci95: half width of the 95 % confidence interval, t(0.975, n - 1) s / sqrt(n).
        relative_accuracy_percent: 100 ci95 / mean (%RA).
        minimum: smallest fraction of a field.
        maximum: largest fraction of a field.
        pooled: fraction of all measured pixels together.
        fold_std: standard deviation, over the folds of the bag, of each fold's mean fraction.
    """

    n: int
    mean: float | None
    std: float | None
    ci95: float | None
    relative_accuracy_percent: float | None
    minimum: float | None
    maximum: float | None
    pooled: float | None
    fold_std: float | None


def phase_statistics(
    fractions: Sequence[float], counts: Sequence[int], totals: Sequence[int], fold_fractions: Sequence[Sequence[float]]
) -> PhaseStatistics:
    """Statistics of one phase (ASTM E562-19, section 11).

    Args:
        fractions: the phase's fraction in each field, 0-1.
        counts: the phase's pixels in each field.
        totals: the measured pixels of each field.
        fold_fractions: for each field the phase's fraction by each fold, 0-1.
    """
    return statistics_by_fold(fractions, counts, totals, list(zip(*fold_fractions, strict=True)))


def statistics_by_fold(
    fractions: Sequence[float], counts: Sequence[int], totals: Sequence[int], folds: Iterable[Sequence[float]]
) -> PhaseStatistics:
    """As `phase_statistics`, with the folds one by one.

    Args:
        fractions: the phase's fraction in each field, 0-1.
        counts: the phase's pixels in each field.
        totals: the measured pixels of each field.
        folds: for each fold the phase's fraction in each field, 0-1.
    """
    n = len(fractions)
    if n == 0:
        return PhaseStatistics(
            n=0,
            mean=None,
            std=None,
            ci95=None,
            relative_accuracy_percent=None,
            minimum=None,
            maximum=None,
            pooled=None,
            fold_std=None,
        )
    mean = math.fsum(fractions) / n
    std = standard_deviation(fractions)
    ci95 = None if std is None else t_quantile_975(n - 1) * std / math.sqrt(n)
    fold_means = [math.fsum(column) / n for column in folds]
    return PhaseStatistics(
        n=n,
        mean=mean,
        std=std,
        ci95=ci95,
        relative_accuracy_percent=None if ci95 is None or mean == 0 else 100 * ci95 / mean,
        minimum=min(fractions),
        maximum=max(fractions),
        pooled=sum(counts) / sum(totals),
        fold_std=standard_deviation(fold_means),
    )


def standard_deviation(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1), None for fewer than two values."""
    if len(values) < 2:
        return None
    return statistics.stdev(values)
