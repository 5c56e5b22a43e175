"""How far an engine's labels may be from the float32 bag's, and two machines' from each other, by the engine's precision.

float32: what another order of summation explains. FP16, INT8: so many points of a phase's fraction, and no more than a
share of it, so that a rare phase (a crack phase of 0.3 %) is guarded too. The gate of `export` and `verify` go by these;
so does `verify` of a student beside its bag, by limits of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Precision = Literal["fp32", "fp16", "int8"]


class Limit(NamedTuple):
    """labels: share that may differ. points: of a phase's fraction on a field; share: the same, of the phase's mean."""

    labels: float
    points: float
    share: float


LIMITS: dict[Precision, Limit] = {
    "fp32": Limit(2e-4, 0.01, np.inf),
    "fp16": Limit(5e-3, 0.1, 0.02),
    "int8": Limit(2e-2, 0.3, 0.05),
}
# Of a student beside its bag, whatever their precisions.
STUDENT = Limit(5e-2, 0.5, 0.1)
# An absent phase has no mean to take a share of; ten pixels of a megapixel are nothing.
LEAST_POINTS = 0.001


def limit_between(*precisions: Precision) -> Limit:
    """What two engines are compared by: the limits of the rougher one."""
    return max(LIMITS[precision] for precision in precisions)


def point_limits(limit: Limit, means: Sequence[float]) -> list[float]:
    """Largest difference of every phase's fraction in percentage points, by the phases' mean fractions (0-1)."""
    # An infinite share of an absent phase is no number.
    return [max(LEAST_POINTS, min(limit.points, 100 * limit.share * mean if mean else 0.0)) for mean in means]


def limit_over(limit_points: float, pixels: int | None) -> float:
    """The limit of a fraction that is taken over so many pixels: never less than one of them, in percentage points."""
    return limit_points if pixels is None else max(limit_points, 100 / pixels)
