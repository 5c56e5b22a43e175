"""The plot beside each phase: its fields as dots on a scale, with the reported fraction and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microseg.deploy.measurement.reported import Reported

# Of more fields, those at even ranks are drawn: the distribution stays, and the page stays small.
MOST_DOTS = 400
_GOLDEN = (math.sqrt(5) - 1) / 2
_SHORTEST = 0.01


@dataclass(frozen=True)
class Strip:
    """A plot. Places along the scale are in per cent of its length.

    Attributes:
        low: fraction at the left end, 0-1.
        high: fraction at the right end, 0-1.
        dots: row of the table, place along the scale, and height from 0 to 1.
        interval: places of the ends of the interval; None without one.
        mark: place of the reported fraction; None without one.
        number: fields that it stands for.
    """

    low: float
    high: float
    dots: Sequence[tuple[int, float, float]]
    interval: tuple[float, float] | None
    mark: float | None
    number: int


def strip_of(fractions: Sequence[tuple[int, float]], reported: Reported) -> Strip:
    """The plot of one phase.

    Args:
        fractions: row of the table and fraction of each field that counts.
        reported: what is reported of the phase.
    """
    values = [value for _, value in fractions]
    values += list(reported.interval or ()) + ([] if reported.fraction is None else [reported.fraction])
    low, high = _ends(values)
    drawn = sorted(fractions, key=lambda each: each[1])
    if len(drawn) > MOST_DOTS:
        drawn = [drawn[round(index * (len(drawn) - 1) / (MOST_DOTS - 1))] for index in range(MOST_DOTS)]

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    dots = [(row, place(value), round(index * _GOLDEN % 1, 3)) for index, (row, value) in enumerate(drawn)]
    interval = None if reported.interval is None else (place(reported.interval[0]), place(reported.interval[1]))
    mark = None if reported.fraction is None else place(reported.fraction)
    return Strip(low, high, dots, interval, mark, len(fractions))


def _ends(values: Sequence[float]) -> tuple[float, float]:
    """Round ends of a scale that holds all values, with room at both sides, within 0 and 1."""
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    room = max(_SHORTEST, high - low) * 0.08
    span = max(_SHORTEST, high - low + 2 * room)
    step = next(each for each in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2) if span / each <= 12)
    return max(0.0, math.floor((low - room) / step) * step), min(1.0, math.ceil((high + room) / step) * step)
