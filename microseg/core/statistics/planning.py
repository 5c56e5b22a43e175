"""How many more fields or sections reach a wanted relative accuracy, and when more no longer help."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from microseg.core.statistics.sampling import BETWEEN, SAMPLING, WITHIN
from microseg.core.statistics.uncertainty import BudgetTerm, Component, combine

# From here on ten times as many fields narrow the interval by 5 % at most.
_LEAST_SHARE_OF_SAMPLING = 0.1
_MOST = 100_000


@dataclass(frozen=True)
class Plan:
    """What more sampling brings.

    Attributes:
        unit: what has to be added: fields of the section, or sections with as many fields as now, where sections differ.
        needed: fields or sections in all that reach the wanted accuracy; None where no number does, because the other terms are
            too large alone.
        enough: fields or sections in all from which on more no longer help; None where only sampling limits the accuracy.
        limit_percent: %RA that sampling without end leaves.
    """

    unit: Literal["fields", "sections"]
    needed: int | None
    enough: int | None
    limit_percent: float


def plan(
    budget: Sequence[BudgetTerm], corrected: float, wanted_percent: float, fields: int, sections: int = 1
) -> Plan | None:
    """Fields or sections for a wanted %RA = 100 U / fraction (ASTM E562-19, relative accuracy; U as `combine` expands it).

    Args:
        budget: of a result of `corrected_fractions`.
        corrected: its corrected fraction, 0-1.
        wanted_percent: wanted %RA, above 0.
        fields: fields that were measured.
        sections: sections that they are of.

    Returns:
        The plan; None without a budget or for a fraction of 0.
    """
    sampled = [row for row in budget if row.term in (SAMPLING, WITHIN, BETWEEN)]
    if not sampled or corrected <= 0:
        return None
    unit: Literal["fields", "sections"] = "sections" if any(row.term == BETWEEN for row in sampled) else "fields"
    now = sections if unit == "sections" else fields
    others = [Component(row.term, row.value, row.degrees, row.kind) for row in budget if row not in sampled]
    spread = math.hypot(*(row.value for row in sampled)) * math.sqrt(now)

    def percent(number: float) -> float:
        sampling = Component(SAMPLING, spread / math.sqrt(number), max(1.0, number - 1))
        return 100 * combine([sampling, *others]).half_width / corrected

    rest = math.fsum(other.value**2 for other in others)
    times = (1 - _LEAST_SHARE_OF_SAMPLING) / _LEAST_SHARE_OF_SAMPLING
    enough = math.ceil(times * spread**2 / rest - 1e-9) if rest else None
    return Plan(unit, _fewest(percent, wanted_percent), enough and max(2, enough), percent(math.inf))


def _fewest(percent: Callable[[float], float], wanted: float) -> int | None:
    if percent(_MOST) > wanted:
        return None
    low, high = 1, _MOST  # `low` is too few, as one field has no spread
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if percent(middle) <= wanted else (middle, high)
    return high
