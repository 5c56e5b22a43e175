"""Corrected fractions and their intervals."""

from __future__ import annotations

import numpy as np
import pytest

from microseg.core.statistics.corrected import KnownUncertainty, corrected_fractions
from microseg.core.statistics.validation_sample import from_confusions


def _sample(errors: list[float], true: list[float]) -> np.ndarray:
    """Confusions of two phases in which the second is found with the given error."""
    pixels = 100_000
    out = []
    for error, fraction in zip(errors, true, strict=True):
        on, wrong = round(fraction * pixels), round(abs(error) * pixels)
        lost, gained = (wrong, 0) if error < 0 else (0, wrong)
        out.append([[pixels - on - gained, gained], [lost, on - lost]])
    return np.array(out)


def test_one_field_has_no_interval() -> None:
    validation = from_confusions(_sample([0.01, 0.02], [0.3, 0.4]), ["a", "b"])
    _, second = corrected_fractions(np.array([[0.7, 0.3]]), validation)
    assert second.interval is None and second.budget == ()
    assert second.raw == pytest.approx(0.3)


def test_shapes_that_do_not_fit_are_refused() -> None:
    validation = from_confusions(_sample([0.01, 0.02], [0.3, 0.4]), ["a", "b"])
    with pytest.raises(ValueError, match="shape"):
        corrected_fractions(np.array([[0.5, 0.3, 0.2]]), validation)
    with pytest.raises(ValueError, match="1 sections for 2 fields"):
        corrected_fractions(np.array([[0.5, 0.5], [0.4, 0.6]]), validation, sections=["a"])


def test_known_terms_are_rows_of_the_budget() -> None:
    validation = from_confusions(_sample([0.01, 0.02, 0.015], [0.3, 0.4, 0.35]), ["a", "b", "c"])
    found = np.array([[0.7, 0.3], [0.65, 0.35], [0.68, 0.32]])
    _, second = corrected_fractions(found, validation, known=[KnownUncertainty("repeatability", (0.01, 0.01), 4)])
    row = next(row for row in second.budget if row.term == "repeatability")
    assert (row.value, row.kind, row.degrees) == (0.01, "B", 4)
    assert second.interval is not None and second.interval[0] < second.corrected < second.interval[1]
