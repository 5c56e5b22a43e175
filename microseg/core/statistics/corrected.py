"""Phase fractions of a section corrected by labelled fields, with their combined uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microseg.core.statistics.inversion import inverted_limits
from microseg.core.statistics.response import Response, fit_response
from microseg.core.statistics.sampling import sampling_components
from microseg.core.statistics.simplex import solve_on_simplex
from microseg.core.statistics.student import t_quantile_975
from microseg.core.statistics.uncertainty import BudgetTerm, Component, combine, within_unit
from microseg.core.statistics.validation_sample import ValidationSample

CORRECTION, SLOPE = "correction", "slope that the labelled fields do not show"
# A difference of fractions, 0-1, beyond rounding.
_MOVED = 1e-9
Withheld = Literal["one field", "one group of labelled fields", "the labelled fields hold one phase alone"]


@dataclass(frozen=True)
class PhaseResult:
    """One phase of a section or of a report. Fractions are 0-1.

    Attributes:
        raw: mean of the found fractions.
        corrected: the raw fraction less the engine's error.
        interval: 95 % interval of the corrected fraction; None where a term of its budget is unknown.
        standard_uncertainty: combined standard uncertainty; None where the interval is None.
        degrees: effective degrees of freedom; None where the interval is None.
        budget: one row for each source of uncertainty; empty where the interval is None.
        validated_range: lowest and highest true fraction of the labelled fields.
        withheld: why there is no interval; None where there is one.
    """

    raw: float
    corrected: float
    interval: tuple[float, float] | None
    standard_uncertainty: float | None
    degrees: float | None
    budget: tuple[BudgetTerm, ...]
    validated_range: tuple[float, float]
    withheld: Withheld | None = None


@dataclass(frozen=True)
class KnownUncertainty:
    """A term that was measured elsewhere: repeatability (one specimen twice) or the disagreement of two annotators.

    Attributes:
        term: name of the row in the budget.
        values: standard uncertainty of each phase's section mean, (P,), 0-1. More fields do not lower it.
        degrees: degrees of freedom (type A); infinite where it is given without observations (type B).
    """

    term: str
    values: Sequence[float]
    degrees: float = math.inf

    def component(self, phase: int) -> Component:
        """The term for one phase."""
        return Component(self.term, float(self.values[phase]), self.degrees, "B" if math.isinf(self.degrees) else "A")


def corrected_fractions(
    found: NDArray[np.float64],
    validation: ValidationSample,
    *,
    fold_found: NDArray[np.float64] | None = None,
    sections: Sequence[str] | None = None,
    known: Sequence[KnownUncertainty] = (),
) -> tuple[PhaseResult, ...]:
    """Correct the found fractions of a section's fields and say how well they are known (GUM, JCGM 100:2008, 3.2.4 and 5).

    The found means are inverted through the response of `fit_response`, on the simplex. Independent terms add up as squares:
    sampling (spread of the corrected fields), correction (scatter of the labelled fields by group), the slope that they do
    not show, and what is known from elsewhere. The limits are the fractions that the found ones do not contradict
    (`inverted_limits`).

    Args:
        found: fraction of each phase in each field, float64 (n, P), 0-1. Fields that overlap are left out by the caller.
        validation: labelled fields of the same domain that trained nothing.
        fold_found: of a cross-validation, the fraction that each fold finds, float64 (n, F, P): folds and not the bag found the
            labelled fields, so that the mean of the folds is what they correct. None: the bag found the labelled fields.
        sections: the section of each field; None: all fields are of one.
        known: terms that were measured elsewhere.

    Returns:
        One result for each phase, in the order of the phases.

    Raises:
        ValueError: no field, another number of phases than the validation's, or other lengths than that of the fields.
    """
    bag = np.asarray(found, np.float64)
    if bag.ndim != 2 or len(bag) == 0 or bag.shape[1] != validation.true.shape[1]:
        raise ValueError(f"found fractions of shape {bag.shape}, validated ones of shape {validation.true.shape}")
    if sections is not None and len(sections) != len(bag):
        raise ValueError(f"{len(sections)} sections for {len(bag)} fields")
    fields = bag if fold_found is None else np.asarray(fold_found, np.float64).mean(1)
    if fields.shape != bag.shape:
        raise ValueError(f"fractions of the folds of shape {fields.shape}, of the bag of shape {bag.shape}")
    response = fit_response(validation)
    inverse = np.linalg.pinv(response.matrix)
    fractions = solve_on_simplex(response.matrix, fields.mean(0))
    results = []
    for phase in range(bag.shape[1]):
        true = validation.true[:, phase]
        raw, corrected = float(bag[:, phase].mean()), float(fractions[phase])
        span = (float(true.min()), float(true.max()))
        withheld = _withheld(len(bag), response.groups, span)
        if withheld is not None:
            nothing = PhaseResult(raw, corrected, None, None, None, (), span)
            results.append(replace(nothing, withheld=withheld))
            continue
        values = fields @ inverse[phase]
        others = [*sampling_components(values, sections), *(term.component(phase) for term in known)]
        estimate = _Estimate(phase, float(values.mean()), fractions, inverse[phase], response)
        results.append(_result(raw, estimate, others, span))
    return tuple(results)


@dataclass(frozen=True)
class _Estimate:
    """The estimate of one phase.

    Attributes:
        phase: its index.
        value: its corrected fraction before it is cut to 0-1.
        fractions: corrected fractions of all phases, float64 (P,).
        functional: the row of the inverted response that gives the value, float64 (P,).
        response: the response.
    """

    phase: int
    value: float
    fractions: NDArray[np.float64]
    functional: NDArray[np.float64]
    response: Response

    def compositions(self, fractions: Sequence[float]) -> NDArray[np.float64]:
        """Fractions of all phases where the phase has the given ones and the others keep their proportions, float64 (P, k)."""
        others = np.delete(self.fractions, self.phase)
        if others.sum() <= 0:
            others = np.delete(self.response.centre, self.phase)
        others = others / others.sum() if others.sum() > 0 else np.full(len(others), 1 / len(others))
        own = np.array(fractions)
        return np.insert(others[:, None] * (1 - own), self.phase, own, axis=0)


def _withheld(fields: int, groups: int, validated: tuple[float, float]) -> Withheld | None:
    if fields < 2:
        return "one field"
    if groups < 2:
        return "one group of labelled fields"
    # What an engine makes of a phase that no labelled field holds is unknown, however many fields there are.
    return "the labelled fields hold one phase alone" if validated in ((0, 0), (1, 1)) else None


def _result(
    raw: float, estimate: _Estimate, others: Sequence[Component], validated_range: tuple[float, float]
) -> PhaseResult:
    corrected = float(estimate.fractions[estimate.phase])
    response, functional = estimate.response, estimate.functional
    compositions = estimate.compositions([corrected, 0, 0.5, 1])
    correction = response.variance(functional, compositions)
    slope = response.slope_variance(functional, compositions)
    total = combine(
        [
            *others,
            Component(CORRECTION, math.sqrt(correction[0]), response.degrees(compositions[:, 0])),
            Component(SLOPE, math.sqrt(slope[0]), math.inf, "B"),
        ]
    )
    fixed = math.fsum(item.value**2 for item in others)
    variances = [fixed + float(value) for value in correction[1:] + slope[1:]]
    low, high = inverted_limits(estimate.value, variances, t_quantile_975(max(1.0, total.degrees)))
    if abs(corrected - estimate.value) > _MOVED:
        # The simplex moved the estimate, of this phase or of another: its own uncertainty is the least that the interval holds.
        least = within_unit(corrected, total.half_width)
        low, high = min(low, least[0]), max(high, least[1])
    interval = (low, high)
    return PhaseResult(raw, corrected, interval, total.value, total.degrees, total.budget, validated_range)
