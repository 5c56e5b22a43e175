"""What the network sees where nothing is measured: the surroundings, mirrored along each row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def filled(rows: NDArray[np.uint8], outside: NDArray[np.bool_], level: int) -> NDArray[np.uint8]:
    """Rows with the pixels `outside` replaced, so that an edge to black or white there does not change the labels beside it.

    Each pixel takes the value that lies as far inside the nearest measured run of its row. A row is filled from itself alone,
    so stripes equal the whole.

    Args:
        rows: uint8 (n, width).
        outside: bool (n, width), True where nothing is measured.
        level: the grey value of rows of which nothing is measured.

    Returns:
        uint8 (n, width); `rows` itself where nothing is outside.
    """
    holed = np.flatnonzero(outside.any(axis=1))
    if not len(holed):
        return rows
    result = rows.copy()
    part, inside = rows[holed], ~outside[holed]
    width = rows.shape[1]
    left, left_gap = _mirrored(inside)
    right, right_gap = (array[:, ::-1] for array in _mirrored(inside[:, ::-1]))
    source = np.where(left_gap <= right_gap, left, width - 1 - right)
    values = np.take_along_axis(part, source, axis=1)
    is_empty = np.minimum(left_gap, right_gap) == width
    result[holed] = np.where(is_empty, np.uint8(level), values)
    return result


def _mirrored(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The column that each pixel takes from the measured run at its left, and its distance to that run, int32 (n, width).

    A measured pixel takes itself. The distance is `width` where no pixel of the row before it is measured.
    """
    width = inside.shape[1]
    columns = np.arange(width, dtype=np.int32)
    starts = inside.copy()
    starts[:, 1:] &= ~inside[:, :-1]
    first = np.maximum.accumulate(np.where(starts, columns, -1), axis=1)
    last = np.maximum.accumulate(np.where(inside, columns, -1), axis=1)
    beyond = columns - last
    source = np.where(inside, columns, last - (beyond - 1) % (last - first + 1))
    is_none = last < 0
    return np.where(is_none, 0, source).astype(np.int32), np.where(is_none, width, beyond).astype(np.int32)
