"""Sampling within and between sections against example H.5 of the GUM."""

from __future__ import annotations

import math

import numpy as np
import pytest

from microseg.core.statistics.sampling import BETWEEN, SAMPLING, WITHIN, prediction_limit, sampling_components

# GUM (JCGM 100:2008), table H.9: ten days of five readings of a voltage, difference of the mean from 10 V and deviation, in uV.
DAYS = [172, 116, 13, 144, 106, 31, 60, 125, 163, 41]
DEVIATIONS = [60, 77, 111, 101, 67, 93, 80, 73, 88, 86]


def test_analysis_of_variance_of_example_h5() -> None:
    """H.5.2: s_W = 85 uV, s_B = 43 uV, u = 57 uV / sqrt(10) = 18 uV."""
    shape = np.array([-1, -1, 0, 1, 1])  # mean 0, standard deviation 1
    values = np.concatenate([mean + deviation * shape for mean, deviation in zip(DAYS, DEVIATIONS, strict=True)])
    within, between = sampling_components(values, [str(day) for day in range(10) for _ in range(5)])
    assert (within.term, between.term) == (WITHIN, BETWEEN)
    assert within.value * math.sqrt(50) == pytest.approx(85, abs=0.5)
    assert between.value * math.sqrt(10) == pytest.approx(43, abs=0.6)
    assert math.hypot(within.value, between.value) == pytest.approx(18, abs=0.3)
    assert within.degrees == 40


def test_one_section_is_e562() -> None:
    (one,) = sampling_components(np.array([0.10, 0.12, 0.08, 0.14, 0.11]))
    assert (one.term, one.degrees) == (SAMPLING, 4)
    assert one.value == pytest.approx(math.sqrt(5) / 100 / math.sqrt(5))


def test_sections_that_do_not_differ_are_one_sample() -> None:
    (one,) = sampling_components(np.array([0.1, 0.3, 0.3, 0.1]), ["a", "a", "b", "b"])
    assert (one.term, one.degrees) == (SAMPLING, 3)


def test_sections_of_one_field_are_one_sample() -> None:
    (one,) = sampling_components(np.array([0.1, 0.3, 0.25]), ["a", "b", "c"])
    assert (one.term, one.degrees) == (SAMPLING, 2)


def test_between_sections_dominates_where_they_differ() -> None:
    """Balanced sections: together the variance of the section means over their number."""
    values = np.array([0.10, 0.12, 0.30, 0.32, 0.20, 0.22])
    within, between = sampling_components(values, ["a", "a", "b", "b", "c", "c"])
    means = np.array([0.11, 0.31, 0.21])
    assert math.hypot(within.value, between.value) == pytest.approx(means.std(ddof=1) / math.sqrt(3))


def test_one_more_value_stays_below_its_limit_as_often_as_stated() -> None:
    """By hand for three values: mean 2, s = 1, t(0.975, 2) = 4.302653, so that 2 + 4.302653 sqrt(4 / 3) is the limit."""
    assert prediction_limit([1.0, 2.0, 3.0]) == pytest.approx(2 + 4.302653 * math.sqrt(4 / 3), abs=1e-6)
    assert prediction_limit([1.0]) is None
    draws = np.random.default_rng(2).normal(size=(4000, 6))
    limits = np.array([prediction_limit(row[:5].tolist()) for row in draws], np.float64)
    assert np.mean(draws[:, 5] > limits) == pytest.approx(0.025, abs=0.01)
