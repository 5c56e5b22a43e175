"""The plot beside a phase."""

from __future__ import annotations

from itertools import pairwise

import pytest

from microseg.deploy.report.page.strip import MOST_DOTS, strip_of
from tests.deploy.report.page.made import reported


def test_dots_lie_on_a_scale_that_holds_all() -> None:
    strip = strip_of([(0, 0.40), (2, 0.46), (3, 0.43)], reported(0.42, "validated"))
    assert 0 <= strip.low < 0.40 and 0.46 < strip.high <= 1 and strip.number == 3
    assert [row for row, _, _ in strip.dots] == [0, 3, 2]
    places = [strip.low + (strip.high - strip.low) * x / 100 for _, x, _ in strip.dots]
    assert places == pytest.approx([0.40, 0.43, 0.46], abs=1e-4)
    assert strip.interval is not None and strip.mark is not None
    assert strip.interval[0] < strip.mark < strip.interval[1]


@pytest.mark.parametrize("fraction", [0.0, 1.0, 0.5])
def test_equal_fields_have_a_scale_within_0_and_1(fraction: float) -> None:
    strip = strip_of([(0, fraction), (1, fraction)], reported(fraction, "none"))
    assert 0 <= strip.low < strip.high <= 1 and strip.interval is None
    assert all(0 <= x <= 100 for _, x, _ in strip.dots)


def test_of_many_fields_even_ranks_are_drawn() -> None:
    strip = strip_of([(row, row / 10_000) for row in range(10_000)], reported(0.5, "none"))
    rows = [row for row, _, _ in strip.dots]
    assert len(rows) == MOST_DOTS and rows[0] == 0 and rows[-1] == 9_999 and strip.number == 10_000
    assert max(after - before for before, after in pairwise(rows)) <= 26


def test_without_fields_there_are_no_dots() -> None:
    assert not strip_of([], reported(0.5, "none")).dots
