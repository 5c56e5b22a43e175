"""The response of an engine and its small-sample uncertainty."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.statistics.response import HOME_SLOPE_SPREAD, SLOPE_SPREAD, fit_response
from microseg.core.statistics.validation_sample import ValidationSample, from_point_counts

SECOND = np.array([0.0, 1.0])


def _two(values: list[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    second = np.asarray(values, np.float64)
    return np.column_stack([1 - second, second])


def _sample(true: list[float], found: list[float], groups: str | None = None) -> ValidationSample:
    names = tuple(groups or map(str, range(len(true))))
    return ValidationSample(_two(true), _two(found), names, np.full(len(true), math.inf))


def test_columns_add_up_to_one_and_a_line_is_found() -> None:
    true = np.linspace(0.1, 0.9, 200)
    response = fit_response(_sample(true.tolist(), (0.05 + 0.8 * true).tolist()))
    np.testing.assert_allclose(response.matrix.sum(0), 1)
    np.testing.assert_allclose(response.matrix, [[0.95, 0.15], [0.05, 0.85]], atol=1e-3)
    assert response.weights[1] @ [-0.1, 0.1] == pytest.approx(0.1, rel=0.01)


def test_fields_of_one_fraction_give_the_difference_estimator() -> None:
    """Constant correction: mean of the errors, s / sqrt(m), m - 1 degrees of freedom."""
    found = [0.28, 0.33, 0.30, 0.36, 0.31]
    response = fit_response(_sample([0.3] * 5, found))
    np.testing.assert_allclose(response.matrix @ _two([0.5])[0], [0.5 - 0.016, 0.5 + 0.016])
    at = _two([0.3]).T
    assert response.variance(SECOND, at)[0] == pytest.approx(np.var(found, ddof=1) / 5)
    assert response.degrees(at[:, 0]) == pytest.approx(4)
    assert response.slope_variance(SECOND, at)[0] == pytest.approx(0)


def test_slopes_that_fields_of_one_fraction_cannot_show_are_a_term() -> None:
    response = fit_response(_sample([0.3] * 5, [0.3] * 5))
    value = math.sqrt(response.slope_variance(SECOND, _two([0.4]).T)[0])
    assert value == pytest.approx(SLOPE_SPREAD * 0.1)


def test_the_rule_looks_at_range_and_number_and_not_at_what_was_found() -> None:
    def weight(true: list[float], error: float) -> float:
        shift = [error * (-1) ** i for i in range(len(true))]
        weights = fit_response(_sample(true, [t + s for t, s in zip(true, shift, strict=True)])).weights
        return float(weights[1] @ [-1, 1])

    wide, narrow = list(np.linspace(0.2, 0.8, 8)), list(np.linspace(0.45, 0.55, 8))
    assert weight(wide, 0.0) == weight(wide, 0.1) > 0.9
    assert weight(narrow, 0.0) < 0.5
    assert weight(narrow * 4, 0.0) > weight(narrow, 0.0)
    assert weight([0.2, 0.8], 0.0) <= 0.5


def test_at_home_slopes_are_taken_to_be_small() -> None:
    """A network errs little on its own domain: S / (S + 0.36) instead of S / (S + 0.0225), whatever was found."""
    true = np.linspace(0.2, 0.8, 8)
    spread = ((true - true.mean()) ** 2).sum()
    for error in (0.0, 0.1):
        found = (true + error * (-1.0) ** np.arange(8)).tolist()
        sample = replace(_sample(true.tolist(), found), at_home=True)
        response = fit_response(sample)
        assert response.weights[1] @ [-1, 1] == pytest.approx(spread / (spread + 0.36))
    exact = fit_response(replace(_sample(true.tolist(), true.tolist()), at_home=True))
    missed = 0.3 * 0.36 / (spread + 0.36)
    assert math.sqrt(exact.slope_variance(SECOND, _two([0.8]).T)[0]) == pytest.approx(HOME_SLOPE_SPREAD * missed)


def test_a_steep_slope_at_home_is_a_term_as_large_as_it_is() -> None:
    """Found 0.3 + 0.4 f: the shrunk line leaves -0.6 times the missed distance, and the term says so."""
    true = np.linspace(0.2, 0.8, 8)
    response = fit_response(replace(_sample(true.tolist(), (0.3 + 0.4 * true).tolist()), at_home=True))
    left = float((response.matrix @ _two([0.8])[0])[1]) - (0.3 + 0.4 * 0.8)
    assert left == pytest.approx(0.6 * 0.3 * 0.36 / (((true - 0.5) ** 2).sum() + 0.36), rel=1e-6)
    assert math.sqrt(response.slope_variance(SECOND, _two([0.8]).T)[0]) == pytest.approx(left, rel=0.08)


def test_two_groups_of_fields_equal_welch_and_imbens_and_kolesar_2016() -> None:
    """With a regressor of two values the slope is a difference of means: variance of Welch's t, degrees of their equation 11:
    (N0 + N1)^2 (N0 - 1)(N1 - 1) / (N1^2 (N1 - 1) + N0^2 (N0 - 1)).
    """
    low, high = [0.01, 0.03, -0.02], [0.05, 0.02, 0.06, 0.08, 0.01, 0.04, 0.07]
    true = [0.0] * 3 + [1.0] * 7
    response = fit_response(_sample(true, [t + e for t, e in zip(true, low + high, strict=True)]))
    # The difference of two points of the line is its slope. At the mean of a group it is the group's own mean.
    assert response.variance(SECOND, _two([0.0]).T)[0] == pytest.approx(np.var(low, ddof=1) / 3, rel=0.06)
    n0, n1 = 3, 7
    expected = (n0 + n1) ** 2 * (n0 - 1) * (n1 - 1) / (n1**2 * (n1 - 1) + n0**2 * (n0 - 1))
    assert response._design.degrees(np.array([0.0, -1.0, 1.0])) == pytest.approx(expected, rel=0.05)


def test_fields_of_one_specimen_count_as_one() -> None:
    """Fields doubled within their groups change nothing."""
    true, found = [0.2, 0.3, 0.5, 0.6, 0.8], [0.22, 0.29, 0.54, 0.63, 0.78]
    once = fit_response(_sample(true, found))
    twice = fit_response(_sample(true * 2, found * 2, "abcdeabcde"))
    at = _two([0.4]).T
    assert twice.groups == 5
    assert twice.variance(SECOND, at)[0] == pytest.approx(once.variance(SECOND, at)[0], rel=0.03)
    assert twice.degrees(at[:, 0]) == pytest.approx(once.degrees(at[:, 0]), rel=0.05)


def test_manual_counts_do_not_flatten_the_line() -> None:
    """Found 0.1 + 0.7 f; without the variance of 25 points a field, the slope would be 10 % too small."""
    rng = np.random.default_rng(7)
    true = rng.uniform(0.15, 0.85, 3000)
    counts = rng.binomial(25, true)
    sample = from_point_counts(
        _two(counts / 25) * 25, np.full(3000, 25.0), _two(0.1 + 0.7 * true), [str(i) for i in range(3000)]
    )
    matrix = fit_response(sample).matrix
    assert matrix[1, 1] - matrix[1, 0] == pytest.approx(0.7, abs=0.03)


def test_three_phases() -> None:
    rng = np.random.default_rng(3)
    true = rng.dirichlet([4, 3, 1], 400)
    matrix = np.array([[0.9, 0.1, 0.2], [0.07, 0.85, 0.2], [0.03, 0.05, 0.6]])
    sample = ValidationSample(true, true @ matrix.T, tuple(map(str, range(400))), np.full(400, math.inf))
    np.testing.assert_allclose(fit_response(sample).matrix, matrix, atol=0.01)


def test_one_group_gives_the_constant_correction() -> None:
    response = fit_response(_sample([0.2, 0.8], [0.25, 0.85], "aa"))
    np.testing.assert_allclose(response.matrix @ _two([0.4])[0], [0.55, 0.45], atol=1e-4)
    assert response.groups == 1
