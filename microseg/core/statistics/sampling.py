"""Uncertainty of a mean over fields, within and between sections."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.core.statistics.student import t_quantile_975
from microseg.core.statistics.uncertainty import Component

SAMPLING = "sampling"
WITHIN, BETWEEN = "sampling within sections", "sampling between sections"


def sampling_components(values: NDArray[np.float64], sections: Sequence[str] | None = None) -> list[Component]:
    """Standard uncertainty of the mean over all fields (ASTM E562-19 for one section; GUM, JCGM 100:2008, H.5 for several).

    Of several sections, the variances within and between them are those of a one-way analysis of variance with random sections.
    Where the sections differ no more than the fields within them, all fields are one sample (GUM H.5.2.5).

    Args:
        values: one value for each field, float64 (n,), n >= 2.
        sections: the section of each field; None: all are of one.

    Returns:
        One component for one section, two for several that differ.
    """
    n = len(values)
    names = np.array(["" for _ in values] if sections is None else sections)
    parts = [values[names == name] for name in sorted(set(names.tolist()))]
    sizes = np.array([len(part) for part in parts], np.float64)
    pooled = Component(SAMPLING, float(values.std(ddof=1)) / math.sqrt(n), n - 1)
    between_degrees, within_degrees = len(parts) - 1, n - len(parts)
    if not (between_degrees and within_degrees):
        return [pooled]
    within = sum(float(((part - part.mean()) ** 2).sum()) for part in parts) / within_degrees
    means = np.array([part.mean() for part in parts])
    between = float((sizes * (means - values.mean()) ** 2).sum()) / between_degrees
    if between <= within:
        return [pooled]
    # Mean squares of unequal sections: Searle, Casella and McCulloch 1992, section 3.6.
    size = (n - float((sizes**2).sum()) / n) / between_degrees
    factor = float((sizes**2).sum()) / n**2 / size
    spread = between - within
    # Satterthwaite's degrees of a difference: both terms together have about those of the mean square between.
    degrees = spread**2 / (between**2 / between_degrees + within**2 / within_degrees)
    return [
        Component(WITHIN, math.sqrt(within / n), within_degrees),
        Component(BETWEEN, math.sqrt(factor * spread), degrees),
    ]


def prediction_limit(values: Sequence[float]) -> float | None:
    """The limit that one more value of the same kind exceeds with a probability of 2.5 % (ISO 16269-8:2004, one-sided).

    Args:
        values: independent, about normally distributed.

    Returns:
        mean + t(0.975, n - 1) s sqrt(1 + 1 / n); None for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return None
    return float(np.mean(values) + t_quantile_975(n - 1) * np.std(values, ddof=1) * math.sqrt(1 + 1 / n))
