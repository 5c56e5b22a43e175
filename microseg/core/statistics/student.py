"""Quantiles of Student's t distribution for whole and broken degrees of freedom."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist

NORMAL_975 = 1.959963984540054
# From here on the difference to the normal distribution is below 1e-6.
_MANY_DEGREES = 1e6
_MOST_TERMS = 500


def t_quantile_975(degrees: float) -> float:
    """The 97.5 % quantile of Student's t distribution: the coverage factor of 95 % (GUM, JCGM 100:2008, table G.2).

    Args:
        degrees: degrees of freedom, from 1; they need not be whole, and may be infinite.

    Raises:
        ValueError: fewer than one degree of freedom.
    """
    return NORMAL_975 if degrees > _MANY_DEGREES else t_quantile(0.975, degrees)


@functools.lru_cache(256)
def t_quantile(probability: float, degrees: float) -> float:
    """A quantile of Student's t distribution.

    Own code, because `import scipy.stats` takes 1.4 s of processor time at every start.

    Args:
        probability: of a smaller value, from 0.9 to below 1.
        degrees: degrees of freedom, from 1; they need not be whole, and may be infinite.

    Raises:
        ValueError: another probability, or fewer than one degree of freedom.
    """
    if not 0.9 <= probability < 1:
        raise ValueError(f"a probability of {probability}: 0.9 to below 1")
    if not degrees >= 1:
        raise ValueError(f"{degrees} degrees of freedom: at least 1")
    z, n = NormalDist().inv_cdf(probability), degrees
    if degrees > _MANY_DEGREES:
        return z
    # Cornish and Fisher's expansion (Abramowitz & Stegun 1964, 26.7.5) starts Newton's steps.
    t = z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)
    logarithm = math.lgamma((n + 1) / 2) - math.lgamma(n / 2) - math.log(n * math.pi) / 2
    for _ in range(_MOST_TERMS):
        density = math.exp(logarithm - (n + 1) / 2 * math.log1p(t * t / n))
        step = (two_sided_p(t, n) - 2 * (1 - probability)) / (2 * density)
        t += step
        if abs(step) < 1e-12 * t:
            break
    return t


def two_sided_p(t: float, degrees: float) -> float:
    """P(|T| > |t|), the regularised incomplete beta function I_x(degrees / 2, 1 / 2) at x = degrees / (degrees + t^2).

    Args:
        t: value of Student's statistic.
        degrees: degrees of freedom, above 0 and finite; they need not be whole.
    """
    if t == 0:
        return 1.0
    a, b, x = degrees / 2, 0.5, degrees / (degrees + t * t)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _continued_fraction(a, b, x) / a
    return 1 - front * _continued_fraction(b, a, 1 - x) / b


def _continued_fraction(a: float, b: float, x: float) -> float:
    """The continued fraction of the incomplete beta function (DLMF 8.17.22), by the modified Lentz method."""
    c, d = 1.0, 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _MOST_TERMS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for step in (even, odd):
            d = 1 / (1 + step * d)
            c = 1 + step / c
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value
