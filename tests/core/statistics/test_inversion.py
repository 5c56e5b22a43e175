"""Limits by inversion of a test (Fieller)."""

from __future__ import annotations

import math

import pytest

from microseg.core.statistics.inversion import inverted_limits


def test_a_constant_uncertainty_gives_estimate_plus_minus() -> None:
    assert inverted_limits(0.4, [0.01, 0.01, 0.01], 2) == pytest.approx((0.2, 0.6))
    assert inverted_limits(0.05, [0.01, 0.01, 0.01], 2) == pytest.approx((0, 0.25))


def test_fraction_of_a_ratio_equals_fiellers_formula() -> None:
    """Fieller 1954, for a / b with independent variances: (a b +- sqrt((a b)^2 - (a^2 - k^2 v_a) w)) / w, w = b^2 - k^2 v_b."""
    a, b, var_a, var_b, k = 0.3, 0.8, 0.0004, 0.003, 2.2
    variances = [(var_a + f**2 * var_b) / b**2 for f in (0, 0.5, 1)]
    below = b**2 - k**2 * var_b
    root = math.sqrt((a * b) ** 2 - (a**2 - k**2 * var_a) * below)
    assert inverted_limits(a / b, variances, k) == pytest.approx(((a * b - root) / below, (a * b + root) / below))


def test_an_engine_that_hardly_responds_claims_nothing() -> None:
    assert inverted_limits(0.6, [1.0, 1.2, 1.5], 2.3) == (0, 1)


def test_an_unsure_slope_still_excludes_one_side() -> None:
    """v(f) = 0.25 f^2 at factor 4: all f with |0.5 - f| <= 2 f, or f >= 1/6 (and f <= -1/2)."""
    assert inverted_limits(0.5, [0.0, 0.0625, 0.25], 4) == pytest.approx((1 / 6, 1))
