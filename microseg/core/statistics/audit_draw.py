"""Which fields of a lot are audited: a systematic sample of a list that is ordered by the found fraction."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def audit_order(found: NDArray[np.float64]) -> NDArray[np.int64]:
    """The order in which fields are drawn: the smooth fractionator (Gundersen 2002, J. Microsc. 207, 191-210).

    Fields are sorted by the found fraction of the phase that varies most. Every other one goes up, the rest comes down, so
    that neighbours are alike and both ends of the list are small: a systematic sample then depends little on its start.

    Args:
        found: found fraction of each phase in each field, float64 (N, P), 0-1.

    Returns:
        Indices of the fields, int64 (N,).
    """
    phase = int(found.std(0).argmax())
    ranks = np.argsort(found[:, phase], kind="stable")
    return np.concatenate([ranks[::2], ranks[1::2][::-1]])


def systematic_positions(fields: int, number: int, start: float) -> NDArray[np.int64]:
    """Positions of a systematic sample with a fractional interval (Cochran 1977, 8.1; Särndal et al. 1992, 3.4.2).

    Args:
        fields: fields of the list, N.
        number: fields to draw, n, from 1 to N.
        start: a uniform random number, from 0 to below 1. Every position is then drawn with the probability n / N.

    Returns:
        n different positions in ascending order, int64 (n,).

    Raises:
        ValueError: n is not 1 to N, or the start not 0 to below 1.
    """
    if not 1 <= number <= fields or not 0 <= start < 1:
        raise ValueError(f"{number} of {fields} fields, start {start}")
    positions = np.floor((start + np.arange(number)) * fields / number).astype(np.int64)
    # Rounding up to the end of the list would leave it.
    return np.asarray(np.minimum(positions, fields - 1))


def shares(sizes: list[int], number: int, least: int) -> list[int]:
    """How many fields each section gets: in proportion to its fields, and at least `least`, or all where it has fewer.

    Args:
        sizes: fields of each section.
        number: fields to draw in all.
        least: the fewest of a section.

    Returns:
        Numbers that add up to `number`, or to the number of all fields where that is smaller.

    Raises:
        ValueError: so few fields cannot give each section its least.
    """
    fewest = [min(least, size) for size in sizes]
    number = min(number, sum(sizes))
    if number < sum(fewest):
        raise ValueError(f"{number} fields for {len(sizes)} sections, {sum(fewest)} at least")
    found = list(fewest)
    for _ in range(number - sum(found)):
        # The section that is furthest below its proportion (highest averages, as Sainte-Laguë).
        open_ones = [index for index, size in enumerate(sizes) if found[index] < size]
        best = max(open_ones, key=lambda index: sizes[index] / (2 * found[index] + 1))
        found[best] += 1
    return found
