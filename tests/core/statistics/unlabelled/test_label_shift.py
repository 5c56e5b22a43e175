from __future__ import annotations

import math

import numpy as np
import pytest

from microseg.core.statistics.unlabelled.label_shift import (
    fitted_temperature,
    largest_disagreement,
    shifted_fractions,
    tempered,
)


def _two_greys(bright: float, share: float, known: float) -> np.ndarray:
    """Calibrated probabilities of dark and bright pixels, where a share of the pixels is bright.

    A pixel of phase 1 is bright with the probability `bright`, one of phase 0 with 1 - `bright`. `known` is the fraction of
    phase 1 that the probabilities were learned with.
    """
    of_bright = bright * known / (bright * known + (1 - bright) * (1 - known))
    of_dark = (1 - bright) * known / ((1 - bright) * known + bright * (1 - known))
    ones = round(1000 * share)
    found = np.array([of_bright] * ones + [of_dark] * (1000 - ones))
    return np.column_stack([1 - found, found])


@pytest.mark.parametrize(("share", "fraction"), [(0.5, 0.5), (0.62, 0.7), (0.26, 0.1), (0.9, 1.0)])
def test_the_most_likely_fraction_of_two_greys_is_known(share: float, fraction: float) -> None:
    """The likelihood has its maximum where share = 0.8 f + 0.2 (1 - f): at f = (share - 0.2) / 0.6, at most 1."""
    found = shifted_fractions(_two_greys(0.8, share, known=0.3), np.array([0.7, 0.3]))
    assert found == pytest.approx([1 - fraction, fraction], abs=1e-3)


def test_normal_classes_whose_composition_changed() -> None:
    """Two normal classes one standard deviation apart, learned at 0.5 each: probabilities are exact, and 0.2 is found again."""
    rng = np.random.default_rng(5)
    values = np.concatenate([rng.normal(0, 1, 16_000), rng.normal(2, 1, 4_000)])
    of_one = 1 / (1 + np.exp(2 - 2 * values))
    soft = np.column_stack([1 - of_one, of_one])
    assert (of_one > 0.5).mean() > 0.25, "counting finds too many"
    assert shifted_fractions(soft, np.array([0.5, 0.5]))[1] == pytest.approx(0.2, abs=0.01)


def test_the_fields_of_the_calibration_keep_their_fractions() -> None:
    soft = np.random.default_rng(1).dirichlet([1, 2, 3], 500)
    assert shifted_fractions(soft, soft.mean(0)) == pytest.approx(soft.mean(0), abs=1e-6)


def test_a_phase_that_is_nowhere_probable_has_no_fraction() -> None:
    soft = np.column_stack([np.full(50, 0.999999), np.full(50, 1e-6)])
    assert shifted_fractions(soft, np.array([0.5, 0.5])) == pytest.approx([1, 0], abs=1e-3)


def test_probabilities_of_another_temperature_are_found_out() -> None:
    """Labels drawn from probabilities at temperature 1; shown are the same at half the temperature, which are too sure."""
    rng = np.random.default_rng(3)
    true = rng.dirichlet([1, 1], 8_000)
    labels = (rng.random(len(true)) < true[:, 1]).astype(np.uint8)
    assert fitted_temperature(true, labels) == pytest.approx(1, abs=0.08)
    sure = tempered(true, 0.5)
    assert fitted_temperature(sure, labels) == pytest.approx(2, abs=0.16)
    assert tempered(sure, 2) == pytest.approx(true, abs=1e-3)


def test_tempered_probabilities_of_two_phases() -> None:
    """Odds of 9 become their square root, 3."""
    assert tempered(np.array([[0.9, 0.1]]), 2) == pytest.approx(np.array([[0.75, 0.25]]))
    assert math.isclose(tempered(np.array([[0.9, 0.1]]), 1)[0, 0], 0.9)


def test_estimates_differ_by_the_phase_where_they_are_furthest_apart() -> None:
    assert largest_disagreement(np.array([[0.5, 0.3, 0.2], [0.45, 0.37, 0.18], [0.5, 0.34, 0.16]])) == pytest.approx(
        0.07
    )


def test_what_fits_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 probabilities"):
        fitted_temperature(np.zeros((0, 2)), np.zeros(0, np.uint8))
    with pytest.raises(ValueError, match="3 phases"):
        shifted_fractions(np.full((4, 2), 0.5), np.full(3, 1 / 3))
