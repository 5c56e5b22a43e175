"""Phase fractions of a section corrected by labelled fields, with their combined uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.statistics.uncertainty import BudgetTerm, Component, combine, within_unit
from microseg.core.statistics.validation_sample import ValidationSample


@dataclass(frozen=True)
class PhaseResult:
    """One phase of a section or of a report. Fractions are 0-1.

    Attributes:
        raw: mean of the found fractions.
        corrected: the raw fraction less the engine's error; equal to it where nothing can be corrected.
        interval: 95 % interval of the corrected fraction; None where there is one field or one group of labelled fields.
        standard_uncertainty: combined standard uncertainty; None where the interval is None.
        degrees: effective degrees of freedom; None where the interval is None.
        budget: one row for each source of uncertainty.
        validated_range: lowest and highest true fraction of the labelled fields.
    """

    raw: float
    corrected: float
    interval: tuple[float, float] | None
    standard_uncertainty: float | None
    degrees: float | None
    budget: tuple[BudgetTerm, ...]
    validated_range: tuple[float, float]


@dataclass(frozen=True)
class KnownUncertainty:
    """A term that was measured elsewhere: repeatability (one specimen twice) or the disagreement of two annotators.

    Attributes:
        term: name of the row in the budget.
        values: standard uncertainty of each phase, (P,), 0-1.
        degrees: degrees of freedom; infinite where it is given without observations.
    """

    term: str
    values: Sequence[float]
    degrees: float = math.inf


def corrected_fractions(
    found: NDArray[np.float64],
    validation: ValidationSample,
    *,
    sections: Sequence[str] | None = None,
    known: Sequence[KnownUncertainty] = (),
) -> tuple[PhaseResult, ...]:
    """Correct the found fractions of a section's fields and say how well they are known (GUM, JCGM 100:2008, 3.2.4 and 5).

    Args:
        found: fraction of each phase in each field, float64 (n, P), 0-1. Fields that overlap are left out by the caller.
        validation: labelled fields of the same domain that trained nothing.
        sections: the section of each field; None: all fields are of one.
        known: terms that were measured elsewhere.

    Returns:
        One result for each phase, in the order of the phases.

    Raises:
        ValueError: no field, another number of phases than the validation's, or as many sections as fields are not given.
    """
    fields = np.asarray(found, np.float64)
    if fields.ndim != 2 or len(fields) == 0 or fields.shape[1] != validation.true.shape[1]:
        raise ValueError(f"found fractions of shape {fields.shape}, validated ones of shape {validation.true.shape}")
    if sections is not None and len(sections) != len(fields):
        raise ValueError(f"{len(sections)} sections for {len(fields)} fields")
    return tuple(_phase(fields[:, phase], validation, phase, known) for phase in range(fields.shape[1]))


def _phase(
    found: NDArray[np.float64], validation: ValidationSample, phase: int, known: Sequence[KnownUncertainty]
) -> PhaseResult:
    raw = float(found.mean())
    true = validation.true[:, phase]
    names = sorted(set(validation.groups))
    members = [[g == name for g in validation.groups] for name in names]
    errors = np.array([(validation.found[m, phase] - true[m]).mean() for m in members])
    corrected = min(1.0, max(0.0, raw - float(errors.mean())))
    span = (float(true.min()), float(true.max()))
    if len(found) < 2 or len(errors) < 2:
        return PhaseResult(raw, corrected, None, None, None, (), span)
    components = [
        Component("sampling", float(found.std(ddof=1)) / math.sqrt(len(found)), len(found) - 1),
        Component("correction", float(errors.std(ddof=1)) / math.sqrt(len(errors)), len(errors) - 1),
        *(Component(item.term, float(item.values[phase]), item.degrees, "B") for item in known),
    ]
    total = combine(components)
    interval = within_unit(corrected, total.half_width)
    return PhaseResult(raw, corrected, interval, total.value, total.degrees, total.budget, span)
