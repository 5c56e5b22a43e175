"""Repeated measurements against published data."""

from __future__ import annotations

import pytest

from microseg.core.statistics.pairs import std_of_pairs

# Peak expiratory flow in l/min by a mini Wright meter, measured twice in 17 subjects (Bland and Altman 1986, Lancet 327, 307).
FIRST = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)
SECOND = (525, 415, 508, 444, 500, 625, 460, 390, 642, 432, 420, 605, 227, 467, 268, 370, 443)


def test_the_standard_deviation_within_subjects_is_the_published_one() -> None:
    """19.91 l/min (Rabe-Hesketh and Skrondal 2012, Multilevel and Longitudinal Modeling Using Stata, 2.5)."""
    differences = [[float(b - a), 0.0] for a, b in zip(FIRST, SECOND, strict=True)]
    assert std_of_pairs(differences) == [pytest.approx(19.91, abs=0.005), 0]


def test_a_shift_of_all_second_results_counts() -> None:
    assert std_of_pairs([[0.02]] * 5) == [pytest.approx(0.02 / 2**0.5)]
    with pytest.raises(ValueError, match="no pair"):
        std_of_pairs([])
