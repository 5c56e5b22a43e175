"""How far a second measurement is from the first one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean


def std_of_pairs(differences: Sequence[Sequence[float]]) -> list[float]:
    """Standard deviation of one of two results under repeatability, from k pairs: √(Σd²/2k) (ISO 5725-2:2019, 7.4).

    It has k degrees of freedom. It is also the standard uncertainty of a mean over fields that were measured, or labelled,
    together: how they are prepared, focused or outlined they share, so that their deviations are correlated, and with a
    correlation of one the mean deviates as a single field does (GUM, JCGM 100:2008, 5.2.2, note 1). What differs from field to
    field is in their sampling as well. That counts it twice and makes the interval wider, never narrower.

    Args:
        differences: second less first result of each pair, for each quantity, (k, quantities).

    Returns:
        One standard deviation for each quantity.

    Raises:
        ValueError: no pair.
    """
    if not differences:
        raise ValueError("no pair of results")
    return [math.sqrt(fmean(value**2 for value in values) / 2) for values in zip(*differences, strict=True)]
