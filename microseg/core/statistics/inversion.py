"""Limits of a true fraction whose uncertainty depends on the fraction itself."""

from __future__ import annotations

import math
from collections.abc import Sequence


def inverted_limits(estimate: float, variances: Sequence[float], factor: float) -> tuple[float, float]:
    """All fractions f from 0 to 1 that the estimate does not contradict: |estimate - f| <= factor u(f) (Fieller 1954).

    The variance u(f)^2 is a parabola, because the correction is a line. Where it is hardly known whether the found fraction
    rises with the true one, the limits are 0 and 1, as they should be. Where two pieces are left, the interval is their hull.

    Args:
        estimate: corrected fraction; it may lie outside 0 to 1.
        variances: u(f)^2 at f = 0, 1/2 and 1.
        factor: coverage factor.

    Returns:
        Lower and upper limit; the lower one is the greater where no fraction from 0 to 1 is left.
    """
    at_0, at_half, at_1 = variances
    curvature = 2 * (at_0 - 2 * at_half + at_1)
    slope = at_1 - at_0 - curvature
    # (estimate - f)^2 - factor^2 u(f)^2 = a f^2 + b f + c
    a, b = 1 - factor**2 * curvature, -2 * estimate - factor**2 * slope
    c = estimate**2 - factor**2 * at_0
    discriminant = b * b - 4 * a * c
    if a == 0 or discriminant < 0:
        return 0.0, 1.0
    root = math.sqrt(discriminant)
    first, second = sorted(((-b - root) / (2 * a), (-b + root) / (2 * a)))
    if a > 0:
        return max(0.0, first), min(1.0, second)
    # Allowed are f <= first and f >= second.
    return 0.0 if first >= 0 else max(0.0, second), 1.0 if second <= 1 else min(1.0, first)
