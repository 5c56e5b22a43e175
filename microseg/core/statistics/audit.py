"""The mean fraction of a section from few audited fields and the found fractions of all fields.

Sources: the difference estimator with power tuning (Angelopoulos, Duchi and Zrnic 2023, PPI++, arXiv 2311.01453), cross-fitted
as in Zrnic and Candès 2024 (cross-prediction-powered inference, arXiv 2309.16598); two-phase sampling and finite population
correction (Cochran 1977, chapters 2, 7 and 12); where predictions help: arXiv 2505.20178.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microseg.core.statistics.corrected import KnownUncertainty
from microseg.core.statistics.sampling import BETWEEN, SAMPLING, sampling_components
from microseg.core.statistics.student import t_quantile_975
from microseg.core.statistics.uncertainty import BudgetTerm, Component, combine, effective_degrees, within_unit
from microseg.core.statistics.validation_sample import count_covariance

AUDITED = "audited fields"
Withheld = Literal["one audited field", "the audited fields hold one phase alone"]
# Excess kurtosis of the differences between true and found fractions about their line: the mean over fields of S, T1, T2 and T3
# (`python -m benchmarks.audit` prints it). Above 0, few fields have much larger errors than the others.
_EXCESS_KURTOSIS = 0.6
# A line through fewer points has no degree of freedom left after one of them is left out.
_LEAST_FOR_A_LINE = 4


@dataclass(frozen=True)
class AuditSample:
    """The audited fields of one section beside all its fields.

    Attributes:
        true: audited fraction of each phase in each audited field, float64 (n, P), 0-1.
        found: found fraction in the same fields, float64 (n, P), 0-1.
        all_found: found fraction in all fields of the section, the audited ones included, float64 (N, P), 0-1.
        points: points of the manual count of each audited field, float64 (n,); infinite for a field with a mask.
    """

    true: NDArray[np.float64]
    found: NDArray[np.float64]
    all_found: NDArray[np.float64]
    points: NDArray[np.float64]


@dataclass(frozen=True)
class AuditedPhase:
    """One phase of an audited section, or of several together. Fractions are 0-1.

    Attributes:
        raw: mean of the found fractions of all fields.
        fraction: the estimate.
        interval: 95 % interval for the section, of which all fields are a sample; None where it is withheld.
        lot_interval: 95 % interval for the mean of these fields alone (finite population correction); None with `interval`.
        standard_uncertainty: combined standard uncertainty of the interval; None where it is withheld.
        degrees: its effective degrees of freedom; None where it is withheld.
        budget: one row for each source of uncertainty.
        correlation: correlation of audited and found fractions; None where either does not vary, or of several sections.
        weight: how much of a found difference counts (power tuning); 0 where the audited fields count alone.
        drawn: number of audited fields, n.
        fields: number of all fields, N.
        withheld: why there is no interval; None where there is one.
    """

    raw: float
    fraction: float
    interval: tuple[float, float] | None
    lot_interval: tuple[float, float] | None
    standard_uncertainty: float | None
    degrees: float | None
    budget: tuple[BudgetTerm, ...]
    correlation: float | None
    weight: float
    drawn: int
    fields: int
    withheld: Withheld | None = None


@dataclass(frozen=True)
class _Estimate:
    """One phase of one section.

    Attributes:
        value: the estimated mean.
        spread: variance of the differences between audited fractions and line, count noise included.
        noise: variance of an audited fraction by its count.
        degrees: degrees of freedom of `spread`.
        weight: power tuning.
        correlation: correlation of audited and found fractions.
        found: found fractions of all fields, float64 (N,).
        drawn: number of audited fields.
        span: smallest and largest audited fraction.
        is_exact: whether the audited fractions are of masks.
    """

    value: float
    spread: float
    noise: float
    degrees: float
    weight: float
    correlation: float | None
    found: NDArray[np.float64]
    drawn: int
    span: tuple[float, float]
    is_exact: bool

    @property
    def found_variance(self) -> float:
        """Variance between all fields that the line explains."""
        return float(self.weight**2 * self.found.var(ddof=1)) if len(self.found) > 1 and self.weight else 0.0

    @property
    def lot_variance(self) -> float:
        """Variance of the estimated mean of these fields: the fields that are not audited are unknown, and counts are noisy."""
        left = 1 - self.drawn / len(self.found)
        return (left * (self.spread - self.noise) + self.noise) / self.drawn

    @property
    def withheld(self) -> Withheld | None:
        """Why there is no interval."""
        if self.drawn < 2:
            return "one audited field"
        # What an engine makes of a phase that nobody saw is unknown. A count of none has the variance of its points.
        return "the audited fields hold one phase alone" if self.is_exact and self.span in ((0, 0), (1, 1)) else None


def least_correlation(audited: int) -> float:
    """Correlation of audited and found fractions from which on predictions help: 1 / sqrt(n - 2) (arXiv 2505.20178).

    Args:
        audited: number of audited fields, n.

    Returns:
        The correlation; infinite where no line can be left-one-out.
    """
    return 1 / math.sqrt(audited - 2) if audited >= _LEAST_FOR_A_LINE else math.inf


def audited_fractions(sample: AuditSample, known: Sequence[KnownUncertainty] = ()) -> tuple[AuditedPhase, ...]:
    """Estimate the mean fraction of each phase of one section.

    The estimate is the mean of audited - w (found - mean found of all fields) over the audited fields. The weight w is the
    slope of audited on found fractions, for each field without that field, so that no field tunes its own difference. Its
    variance is that of these differences over n: the differences hold no trend of the list that the fields were drawn from, and
    for a list without trend the variance of a random sample fits a systematic one (Cochran 1977, 8.5 and 8.6; Wolter 2007,
    8.2). What is left of a trend makes it too large, not too small. Fields that a network gets wrong are few, and eight audited
    ones may hold none of them. Two allowances are made. By the rule of succession (Laplace 1774), a share of 1 / (n + 2) of the
    fields is taken to be found no better than without a prediction, which adds that share of the variance that the line
    explains. The degrees of freedom are those of differences with long tails.

    All fields are themselves a sample of the section, which adds the variance of w times found over N (two-phase sampling,
    Cochran 1977, 12.6). With n = N audited fields, and where the correlation is below `least_correlation`, w is 0, and the
    result is that of ASTM E562 from the audited fields alone.

    Args:
        sample: the audited fields, and all fields.
        known: terms that were measured elsewhere, such as the disagreement of two annotators.

    Returns:
        One result for each phase. The fractions add up to one.

    Raises:
        ValueError: shapes that do not fit, or no field.
    """
    estimates = _estimates(sample)
    results = [
        _result(
            item,
            [
                Component(AUDITED, math.sqrt(item.spread / item.drawn), max(1, item.degrees)),
                *_explained(item),
                *(term.component(phase) for term in known),
            ],
            item.lot_variance,
        )
        for phase, item in enumerate(estimates)
    ]
    return tuple(results)


def audited_together(
    samples: Sequence[AuditSample], known: Sequence[KnownUncertainty] = ()
) -> tuple[AuditedPhase, ...]:
    """Estimate the mean fraction of each phase over the fields of several audited sections (stratified, Cochran 1977, 5.3).

    Args:
        samples: the sections.
        known: terms that were measured elsewhere.

    Returns:
        One result for each phase. Its interval is of what the sections are a sample of, where they differ.

    Raises:
        ValueError: as `audited_fractions`, or no section.
    """
    if len(samples) == 1:
        return audited_fractions(samples[0], known)
    by_section = [_estimates(sample) for sample in samples]
    total = sum(len(sample.all_found) for sample in samples)
    results = []
    for phase in range(samples[0].true.shape[1]):
        items = [estimates[phase] for estimates in by_section]
        weights = [len(item.found) / total for item in items]
        parts = [
            Component("", weight * math.sqrt(item.spread / item.drawn), max(1, item.degrees))
            for weight, item in zip(weights, items, strict=True)
        ]
        audited = Component(AUDITED, math.hypot(*(part.value for part in parts)), effective_degrees(parts))
        explained = [
            Component("", weight * math.sqrt(item.found_variance / len(item.found)), len(item.found) - 1)
            for weight, item in zip(weights, items, strict=True)
            if item.found_variance
        ]
        within = [Component(SAMPLING, math.hypot(*(part.value for part in explained)), effective_degrees(explained))]
        lot = math.fsum(weight**2 * item.lot_variance for weight, item in zip(weights, items, strict=True))
        pooled = _Estimate(
            value=math.fsum(weight * item.value for weight, item in zip(weights, items, strict=True)),
            spread=0.0,
            noise=0.0,
            degrees=0,
            weight=math.fsum(weight * item.weight for weight, item in zip(weights, items, strict=True)),
            correlation=None,
            found=np.concatenate([item.found for item in items]),
            drawn=sum(item.drawn for item in items),
            span=(min(item.span[0] for item in items), max(item.span[1] for item in items)),
            is_exact=all(item.is_exact for item in items),
        )
        terms = [audited, *(within if explained else []), *_between(items), *(term.component(phase) for term in known)]
        single = any(item.drawn < 2 for item in items)
        results.append(_result(pooled, terms, lot, "one audited field" if single else None))
    return tuple(results)


def _estimates(sample: AuditSample) -> list[_Estimate]:
    true, found, every = sample.true, sample.found, sample.all_found
    if true.ndim != 2 or true.shape != found.shape or len(true) == 0 or len(sample.points) != len(true):
        raise ValueError(f"audited fractions of shape {true.shape}, found ones of shape {found.shape}")
    if every.ndim != 2 or every.shape[1] != true.shape[1] or len(every) < len(true):
        raise ValueError(
            f"found fractions of all fields of shape {every.shape}, of audited ones of shape {found.shape}"
        )
    covariances = [count_covariance(row, points) for row, points in zip(true, sample.points, strict=True)]
    noise = np.diag(np.mean(covariances, axis=0))
    estimates = [_estimate(true[:, k], found[:, k], every[:, k], float(noise[k])) for k in range(true.shape[1])]
    return _adding_up(estimates)


def _estimate(
    true: NDArray[np.float64], found: NDArray[np.float64], every: NDArray[np.float64], noise: float
) -> _Estimate:
    n = len(true)
    weights, correlation = _weights(true, found, len(every))
    differences = true - weights * (found - every.mean())
    tuned = bool(weights.any())
    degrees = _degrees_of_differences(n) if tuned else n - 1
    spread = float(differences.var(ddof=1)) if n > 1 else 0.0
    if tuned:
        spread += max(0.0, float(true.var(ddof=1)) - spread) / (n + 2)
    return _Estimate(
        value=float(differences.mean()),
        # Counts of equal numbers still have the noise of their points.
        spread=max(spread, noise),
        noise=noise,
        degrees=degrees,
        weight=float(weights.mean()),
        correlation=correlation,
        found=every,
        drawn=n,
        span=(float(true.min()), float(true.max())),
        is_exact=noise == 0,
    )


def _degrees_of_differences(n: int) -> float:
    """Effective degrees of freedom of the variance of n differences to a line, whose tails are those of a network's errors.

    The variance of a sample variance is s^4 (2 / (n - 1) + excess / n) (O'Neill 2014, Am. Stat. 68, 282, result 3), here with
    one degree less for the line; the degrees are those of a normal sample whose variance is as uncertain (Satterthwaite).
    """
    return 2 / (2 / (n - 2) + _EXCESS_KURTOSIS / n)


def _weights(
    true: NDArray[np.float64], found: NDArray[np.float64], fields: int
) -> tuple[NDArray[np.float64], float | None]:
    """The weight of each audited field, from the others, and the correlation of audited and found fractions."""
    n = len(true)
    none = np.zeros(n)
    x, y = true - true.mean(), found - found.mean()
    scale = math.sqrt(float(x @ x) * float(y @ y))
    if scale < 1e-15:
        return none, None
    correlation = float(x @ y) / scale
    if n == fields or correlation < least_correlation(n):
        return none, correlation
    # Sums without field i: of n deviations from the mean, those of the others about their own mean.
    without = n / (n - 1)
    products, squares = float(x @ y) - without * x * y, float(y @ y) - without * y * y
    if (squares < 1e-12 * float(y @ y)).any():
        # All others are found alike: without this one field there is no line.
        return none, correlation
    return products / squares, correlation


def _adding_up(estimates: Sequence[_Estimate]) -> list[_Estimate]:
    """The estimates, moved in proportion to their variances so that the fractions add up to one (least squares)."""
    left = 1 - math.fsum(item.value for item in estimates)
    variances = [item.spread for item in estimates]
    total = math.fsum(variances)
    if not total:
        return list(estimates)
    return [
        _Estimate(**(item.__dict__ | {"value": item.value + left * variance / total}))
        for item, variance in zip(estimates, variances, strict=True)
    ]


def _explained(item: _Estimate) -> list[Component]:
    """Sampling of the fields, as far as the line shows it; the rest is in the spread of the audited fields."""
    if not item.found_variance:
        return []
    return [Component(SAMPLING, math.sqrt(item.found_variance / len(item.found)), len(item.found) - 1)]


def _between(items: Sequence[_Estimate]) -> list[Component]:
    """Variance between sections, where they differ more than the fields within them."""
    values, names = [], []
    for index, item in enumerate(items):
        spread = item.found.std(ddof=1) if len(item.found) > 1 else 0.0
        factor = math.sqrt(item.found_variance + item.spread) / spread if spread else 0.0
        values.append(item.value + factor * (item.found - item.found.mean()))
        names += [str(index)] * len(item.found)
    return [part for part in sampling_components(np.concatenate(values), names) if part.term == BETWEEN]


def _result(
    item: _Estimate, terms: Sequence[Component], lot_variance: float, withheld: Withheld | None = None
) -> AuditedPhase:
    withheld = withheld or item.withheld
    total = combine(terms)
    fraction = min(1.0, max(0.0, item.value))
    degrees = max(1.0, terms[0].degrees)
    lot = within_unit(item.value, t_quantile_975(degrees) * math.sqrt(lot_variance))
    return AuditedPhase(
        raw=float(item.found.mean()),
        fraction=fraction,
        interval=None if withheld else within_unit(item.value, total.half_width),
        lot_interval=None if withheld else lot,
        standard_uncertainty=None if withheld else total.value,
        degrees=None if withheld else total.degrees,
        budget=() if withheld else total.budget,
        correlation=item.correlation,
        weight=item.weight,
        drawn=item.drawn,
        fields=len(item.found),
        withheld=withheld,
    )
