"""Limits on how far the labels of an engine may be from those of the float32 bag, and those of two machines from each other.

The limits depend on the precision. Float32: what another order of summation explains. FP16 and INT8: percentage points of a
phase's area fraction, and a share of its mean, so that a rare phase (a crack phase of 0.3 %) is guarded too. A student
beside its bag has limits of its own. The gate of `export` and `verify` use these limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

Precision = Literal["fp32", "fp16", "int8"]


class Limit(NamedTuple):
    """A limit.

    Attributes:
        labels: share of the labels that may differ, 0-1.
        points: difference that a phase's area fraction may have on a field, in percentage points.
        share: the same as a share of the phase's mean fraction, 0-1.
    """

    labels: float
    points: float
    share: float


LIMITS: dict[Precision, Limit] = {
    "fp32": Limit(2e-4, 0.01, np.inf),
    "fp16": Limit(5e-3, 0.1, 0.02),
    "int8": Limit(2e-2, 0.3, 0.05),
}
# For a student beside its bag, whatever their precisions.
STUDENT_LIMIT = Limit(5e-2, 0.5, 0.1)
# The least limit, in percentage points: an absent phase has no mean. It is ten pixels of a megapixel.
LEAST_POINTS = 0.001


def limit_between(*precisions: Precision) -> Limit:
    """The limit for two engines: that of the lower precision."""
    return max(LIMITS[precision] for precision in precisions)


def point_limits(limit: Limit, means: Sequence[float]) -> list[float]:
    """The largest allowed difference of each phase's area fraction, in percentage points.

    Args:
        limit: the limit.
        means: mean area fraction of each phase, 0-1.
    """
    # An infinite share of an absent phase is not a number.
    return [max(LEAST_POINTS, min(limit.points, 100 * limit.share * mean if mean else 0.0)) for mean in means]


def limit_over(limit_points: float, pixels: int | None) -> float:
    """The limit of a fraction over a number of pixels: at least one pixel.

    Args:
        limit_points: the limit in percentage points.
        pixels: number of pixels; None where it is unknown.

    Returns:
        The limit in percentage points.
    """
    return limit_points if pixels is None else max(limit_points, 100 / pixels)
