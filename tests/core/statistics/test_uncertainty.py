"""Combined uncertainty against the worked examples of the GUM (JCGM 100:2008)."""

from __future__ import annotations

import math

import pytest

from microseg.core.statistics.uncertainty import Component, combine, effective_degrees, within_unit


def test_end_gauge_of_example_h1() -> None:
    """H.1: u_c = 32 nm, 16 effective degrees of freedom (H.1.6: 16.7, cut to 16), from five terms in nm."""
    components = [
        Component("calibration of the standard", 25, 18),
        Component("repeated observations", 5.8, 24),
        Component("comparator, random", 3.9, 5),
        Component("comparator, systematic", 6.7, 8),
        Component("difference of expansion coefficients", 2.9, 50, "B"),
        Component("difference of temperatures", 16.6, 2, "B"),
    ]
    total = combine(components)
    assert total.value == pytest.approx(31.7, abs=0.4)
    assert math.floor(total.degrees) == 16
    assert sum(row.share for row in total.budget) == pytest.approx(1)
    assert [row.kind for row in total.budget] == ["A"] * 4 + ["B"] * 2


def test_product_of_example_g4() -> None:
    """G.4.1: relative uncertainties of 0.25, 0.57 and 0.82 % with n = 10, 5 and 15: u = 1.03 %, 19.0 degrees, U = 2.15 %."""
    total = combine([Component("x1", 0.25, 9), Component("x2", 0.57, 4), Component("x3", 0.82, 14)])
    assert total.value == pytest.approx(1.03, abs=0.005)
    assert total.degrees == pytest.approx(19.0, abs=0.05)
    assert total.half_width == pytest.approx(2.09 * 1.03, abs=0.01)


def test_nothing_uncertain() -> None:
    total = combine([Component("sampling", 0.0, 4), Component("correction", 0.0, 7)])
    assert (total.value, total.half_width) == (0, 0)
    assert total.degrees == math.inf
    assert [row.share for row in total.budget] == [0, 0]


def test_known_values_have_infinitely_many_degrees() -> None:
    assert effective_degrees([Component("given", 0.1, math.inf, "B")]) == math.inf
    assert effective_degrees([Component("tiny", 1e-200, 3)]) == pytest.approx(3)


def test_interval_is_cut_to_fractions() -> None:
    assert within_unit(0.02, 0.05) == pytest.approx((0, 0.07))
    assert within_unit(1.0, 0.01) == pytest.approx((0.99, 1))
