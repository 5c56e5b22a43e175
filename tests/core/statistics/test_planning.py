"""More fields, more sections, and where more no longer help."""

from __future__ import annotations

import math

import pytest

from microseg.core.statistics.planning import plan
from microseg.core.statistics.sampling import BETWEEN, SAMPLING, WITHIN
from microseg.core.statistics.student import t_quantile_975
from microseg.core.statistics.uncertainty import Component, combine

SPREAD = 0.05


def test_without_a_correction_it_is_e562() -> None:
    """t s / sqrt(n) = 10 % of 0.3 first holds at n = 14 for s = 0.05: t(13) = 2.160 gives 9.6 %, t(12) = 2.179 10.07 %."""
    budget = combine([Component(SAMPLING, SPREAD / math.sqrt(5), 4)]).budget
    found = plan(budget, 0.3, 10, fields=5)
    assert found is not None
    assert (found.unit, found.needed, found.enough) == ("fields", 14, None)
    assert found.limit_percent == 0


def test_the_correction_sets_a_limit() -> None:
    budget = combine([Component(SAMPLING, SPREAD / math.sqrt(10), 9), Component("correction", 0.01, 6)]).budget
    found = plan(budget, 0.3, 5, fields=10)
    assert found is not None
    assert found.limit_percent == pytest.approx(100 * t_quantile_975(6) * 0.01 / 0.3)
    assert found.needed is None
    # Nine times the variance of the correction: 0.05^2 9 / 0.01^2.
    assert found.enough == 225
    reachable = plan(budget, 0.3, 10, fields=10)
    assert reachable is not None and reachable.needed is not None and 10 < reachable.needed < 40


def test_sections_are_counted_where_they_differ() -> None:
    budget = combine([Component(WITHIN, 0.01, 8), Component(BETWEEN, 0.02, 1.5)]).budget
    found = plan(budget, 0.5, 5, fields=12, sections=4)
    assert found is not None and found.unit == "sections" and found.needed is not None and found.needed > 4


def test_no_plan_without_a_budget_or_for_nothing() -> None:
    assert plan((), 0.3, 10, fields=5) is None
    assert plan(combine([Component(SAMPLING, 0.0, 4)]).budget, 0.0, 10, fields=5) is None
