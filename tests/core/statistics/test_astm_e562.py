"""ASTM E562 statistics against values worked by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microseg.core.statistics.astm_e562 import phase_statistics, standard_deviation


def test_e562_worked_by_hand() -> None:
    """Five fields of 10, 12, 8, 14 and 11 %: mean 11, s = sqrt(5) = 2.236, CI = 2.776 s / sqrt(5) = 2.776, %RA 25.2."""
    percent = [10, 12, 8, 14, 11]
    found = phase_statistics(
        [p / 100 for p in percent], [10 * p for p in percent], [1000] * 5, [[p / 100, p / 100 + 0.02] for p in percent]
    )
    assert found.n == 5
    assert found.mean == pytest.approx(0.11)
    assert found.std == pytest.approx(math.sqrt(5) / 100)
    assert found.ci95 == pytest.approx(0.0277645, abs=1e-6)
    assert found.relative_accuracy_percent == pytest.approx(25.2404, abs=1e-3)
    assert (found.minimum, found.maximum) == (0.08, 0.14)
    assert found.pooled == pytest.approx(0.11)
    assert found.fold_std == pytest.approx(0.02 / math.sqrt(2))


def test_pooled_weighs_pixels_and_the_mean_fields() -> None:
    found = phase_statistics([0.5, 0.1], [50, 100], [100, 1000], [[0.5], [0.1]])
    assert found.mean == pytest.approx(0.3)
    assert found.pooled == pytest.approx(150 / 1100)
    assert found.fold_std is None


def test_one_field_and_none() -> None:
    one = phase_statistics([0.25], [25], [100], [[0.25, 0.26]])
    assert (one.n, one.mean, one.std, one.ci95, one.relative_accuracy_percent) == (1, 0.25, None, None, None)
    none = phase_statistics([], [], [], [])
    assert none.n == 0 and none.mean is None and none.pooled is None


def test_a_phase_that_never_occurs_has_no_relative_accuracy() -> None:
    found = phase_statistics([0.0, 0.0], [0, 0], [10, 10], [[0.0], [0.0]])
    assert found.ci95 == 0 and found.relative_accuracy_percent is None


@given(st.lists(st.floats(0, 1), min_size=2, max_size=30))
def test_standard_deviation_equals_numpy(values: list[float]) -> None:
    import numpy as np

    assert standard_deviation(values) == pytest.approx(np.std(values, ddof=1), abs=1e-12)
