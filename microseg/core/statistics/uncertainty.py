"""Combined standard uncertainty, effective degrees of freedom and the expanded interval of the GUM (JCGM 100:2008)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from microseg.core.statistics.student import t_quantile_975


@dataclass(frozen=True)
class Component:
    """One source of uncertainty.

    Attributes:
        term: its name.
        value: standard uncertainty, in the unit of the result.
        degrees: degrees of freedom; infinite where the value is known.
        kind: how it was evaluated: A by statistics of observations, B otherwise (GUM 4.2 and 4.3).
    """

    term: str
    value: float
    degrees: float
    kind: Literal["A", "B"] = "A"


@dataclass(frozen=True)
class BudgetTerm:
    """One row of the uncertainty budget: a component and its share of the variance, 0-1."""

    term: str
    value: float
    kind: Literal["A", "B"]
    degrees: float
    share: float


@dataclass(frozen=True)
class CombinedUncertainty:
    """Several components together.

    Attributes:
        value: combined standard uncertainty.
        degrees: effective degrees of freedom.
        half_width: expanded uncertainty of 95 %.
        budget: one row for each component.
    """

    value: float
    degrees: float
    half_width: float
    budget: tuple[BudgetTerm, ...]


def combine(components: Sequence[Component]) -> CombinedUncertainty:
    """Combine independent components and expand them to 95 % (GUM 5.1.2 and G.4.1).

    Args:
        components: the sources of uncertainty, each already multiplied with its sensitivity.

    Returns:
        The root sum of squares, the effective degrees of freedom and U = t(0.975, degrees) u, with 1 degree at least.
    """
    value = math.hypot(*(component.value for component in components))
    degrees = effective_degrees(components)
    budget = tuple(
        BudgetTerm(item.term, item.value, item.kind, item.degrees, (item.value / value) ** 2 if value else 0.0)
        for item in components
    )
    return CombinedUncertainty(value, degrees, t_quantile_975(max(1.0, degrees)) * value, budget)


def effective_degrees(components: Sequence[Component]) -> float:
    """Effective degrees of freedom by Welch (1947) and Satterthwaite (1946), GUM equation G.2b.

    Args:
        components: the sources of uncertainty.

    Returns:
        Degrees of freedom; infinite where no component has both a value and finite degrees.
    """
    # Relative to the whole, so that tiny values do not vanish in the fourth power.
    value = math.hypot(*(component.value for component in components))
    below = math.fsum((item.value / value) ** 4 / item.degrees for item in components) if value else 0.0
    return 1 / below if below else math.inf


def within_unit(centre: float, half_width: float) -> tuple[float, float]:
    """The interval centre +- half width, cut to what a fraction can be, 0 to 1."""
    return min(1.0, max(0.0, centre - half_width)), max(0.0, min(1.0, centre + half_width))
