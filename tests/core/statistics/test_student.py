"""Quantiles of Student's t against SciPy and table G.2 of the GUM."""

from __future__ import annotations

import math

import pytest
import scipy.stats

from microseg.core.statistics.student import t_quantile, t_quantile_975, two_sided_p


@pytest.mark.parametrize("degrees", [1, 1.3, 2, 2.5, 3, 4.7, 9, 10, 29, 30.01, 99, 1000, 1e5])
def test_quantile_equals_scipy(degrees: float) -> None:
    assert t_quantile_975(degrees) == pytest.approx(scipy.stats.t.ppf(0.975, degrees), rel=1e-10)


@pytest.mark.parametrize(
    ("degrees", "printed"), [(1, 12.71), (2, 4.30), (5, 2.57), (16, 2.12), (50, 2.01), (100, 1.984)]
)
def test_quantile_is_that_of_table_g2_of_the_gum(degrees: int, printed: float) -> None:
    assert t_quantile_975(degrees) == pytest.approx(printed, abs=0.005)


def test_infinitely_many_degrees_are_the_normal_distribution() -> None:
    assert t_quantile_975(math.inf) == pytest.approx(1.96, abs=1e-4)


@pytest.mark.parametrize("probability", [0.9, 0.995, 0.999])
@pytest.mark.parametrize("degrees", [1, 1.3, 2, 7, 15, 1000])
def test_other_quantiles_equal_scipy(probability: float, degrees: float) -> None:
    assert t_quantile(probability, degrees) == pytest.approx(scipy.stats.t.ppf(probability, degrees), rel=1e-9)


@pytest.mark.parametrize("probability", [0.5, 1, math.nan])
def test_other_probabilities_are_refused(probability: float) -> None:
    with pytest.raises(ValueError, match="a probability of"):
        t_quantile(probability, 5)


@pytest.mark.parametrize("degrees", [0.5, 0, -1, math.nan])
def test_less_than_one_degree_is_refused(degrees: float) -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        t_quantile_975(degrees)


@pytest.mark.parametrize("t", [0.0, 0.5, -2.0, 12.7, 60.0])
@pytest.mark.parametrize("degrees", [1, 2.5, 9, 200])
def test_probabilities_are_those_of_scipy(t: float, degrees: float) -> None:
    assert two_sided_p(t, degrees) == pytest.approx(2 * scipy.stats.t.sf(abs(t), degrees), rel=1e-9, abs=1e-15)
