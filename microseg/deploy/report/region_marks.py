"""Marks of a picture by which the same pixels are found again in another picture, wherever they lie there.

A mark is the hash of a small square of pixels. Squares are chosen by their content alone, and of all squares those with the
smallest hashes are kept (Broder 1997), so that two pictures that share a region share the marks in it.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

SIDE_PX = 16
MOST = 256
# One place in a thousand is looked at, and no more than this of a stripe, such as one that is saturated.
_CHOSEN, _MOST_OF_STRIPE = 77, 2048
# Squares with fewer grey values between darkest and brightest are alike everywhere.
_LEAST_CONTRAST = 12
_DTYPE = np.dtype([("hash", "<u8"), ("top", "<i4"), ("left", "<i4")])


def _weights() -> NDArray[np.uint64]:
    """Odd numbers of 64 bit, the same on every machine (the generator of Steele et al. 2014)."""
    values, state = [], 0
    for _ in range(SIDE_PX**2):
        state = (state + 0x9E3779B97F4A7C15) & (2**64 - 1)
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        values.append((mixed ^ (mixed >> 31)) | 1)
    return np.array(values, np.uint64)


_WEIGHTS = _weights()


@dataclass
class RegionMarks:
    """Takes the rows of a picture from top to bottom, and keeps its marks."""

    _marks: NDArray[np.void] = field(default_factory=lambda: np.empty(0, _DTYPE))
    _rows: NDArray[np.uint8] | None = None
    _top: int = 0

    def add(self, grey: NDArray[np.uint8]) -> None:
        """Take the next rows, uint8 (n, w)."""
        rows = grey if self._rows is None else np.concatenate([self._rows, grey])
        if min(rows.shape) >= SIDE_PX:
            self._keep(rows)
            self._top += len(rows) - SIDE_PX + 1
            rows = rows[len(rows) - SIDE_PX + 1 :]
        self._rows = rows.copy()

    def _keep(self, rows: NDArray[np.uint8]) -> None:
        height, width = len(rows) - SIDE_PX + 1, rows.shape[1] - SIDE_PX + 1
        corner, right, below, across = (
            rows[down : down + height, left : left + width] for down, left in ((0, 0), (0, 1), (1, 0), (1, 1))
        )
        # Wraps at 256: one place in 256 is chosen by its corner, and one in four of these by the other corners.
        places = np.flatnonzero(((corner + right + right) ^ (below + (across << 2))) == _CHOSEN)
        tops, lefts = np.divmod(places, width)
        far = rows[tops, lefts + SIDE_PX - 1] + rows[tops + SIDE_PX - 1, lefts]
        tops, lefts = tops[far % 4 == 0], lefts[far % 4 == 0]
        if len(tops) > _MOST_OF_STRIPE:
            return
        squares = sliding_window_view(rows, (SIDE_PX, SIDE_PX))[tops, lefts].reshape(-1, SIDE_PX**2)
        told = squares.max(1, initial=0).astype(int) - squares.min(1, initial=255) >= _LEAST_CONTRAST
        found = np.empty(int(told.sum()), _DTYPE)
        found["hash"] = (squares[told].astype(np.uint64) * _WEIGHTS).sum(1, dtype=np.uint64)
        found["top"], found["left"] = tops[told] + self._top, lefts[told]
        both = np.concatenate([self._marks, found])
        self._marks = both[np.argsort(both["hash"], kind="stable")[:MOST]]

    def text(self) -> str:
        """The marks for a record."""
        return base64.b64encode(self._marks.tobytes()).decode("ascii")


def marks_of(text: str) -> NDArray[np.void]:
    """The marks in a record: hash, and row and column of the square in px; none of a text that holds none."""
    try:
        data = base64.b64decode(text, validate=True)
    except binascii.Error:
        return np.empty(0, _DTYPE)
    return np.frombuffer(data[: len(data) // _DTYPE.itemsize * _DTYPE.itemsize], _DTYPE)[:MOST]
