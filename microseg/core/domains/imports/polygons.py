"""Polygons to pixels by pixel centres, with holes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from microseg.core.errors import InputError

Ring = NDArray[np.float64]

# Beyond any micrograph. Larger numbers are no pixels, and their products no floats.
_FARTHEST_PX = 1e7
# Edges times the rows that they cross: as much at once as fits into the memory, and in one polygon as ends in a minute.
_AT_ONCE = 1 << 21
_MOST = 1 << 31


def ring(points: ArrayLike, where: str) -> Ring:
    """A closed line through points, float64 (n, 2) of x and y.

    Args:
        points: n pairs of numbers.
        where: file and place, for messages.

    Raises:
        InputError: fewer than three points, or what is no pair of numbers of pixels.
    """
    try:
        found = np.asarray(points, np.float64)
    except (OverflowError, TypeError, ValueError):
        found = np.empty(0)
    if found.ndim != 2 or found.shape[1] < 2 or len(found) < 3:
        raise InputError(f"{where}: is no outline of three or more points. Remedy: draw it again, or delete it.")
    if not (np.abs(found) <= _FARTHEST_PX).all():  # also NaN
        raise InputError(f"{where}: has a point that is no place in an image. Remedy: draw it again, or delete it.")
    return found[:, :2]


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    """The corners of a box."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def ellipse(x: float, y: float, rx: float, ry: float) -> list[list[float]]:
    """A polygon that differs from an ellipse by less than a ten-thousandth of its radii."""
    angles = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    return np.column_stack([x + rx * np.cos(angles), y + ry * np.sin(angles)]).tolist()  # type: ignore[no-any-return]


def filled(rings: Sequence[Ring], shape: tuple[int, int], path: Path) -> tuple[int, int, NDArray[np.bool_]]:
    """The pixels whose centres lie inside an odd number of rings (even-odd rule): inside the outline, outside the holes.

    Args:
        rings: the outline and its holes.
        shape: height and width of the image in pixels.
        path: the file, for messages.

    Returns:
        First row, first column and bool (h, w) of the part of the image that holds the polygon.

    Raises:
        InputError: the polygon has too many long edges.
    """
    height, width = shape
    start = np.concatenate(rings)
    stop = np.concatenate([np.roll(item, -1, 0) for item in rings])
    # From top to bottom, so that polygons that share an edge compute it alike.
    down = (start[:, 1] < stop[:, 1])[:, None]
    upper, lower = np.where(down, start, stop), np.where(down, stop, start)
    first, last = (np.clip(np.ceil(end[:, 1] - 0.5), 0, height).astype(np.int64) for end in (upper, lower))
    crosses = last > first
    if not crosses.any():
        return 0, 0, np.zeros((0, 0), np.bool_)
    upper, lower, first, last = upper[crosses], lower[crosses], first[crosses], last[crosses]
    if (last - first).sum() > _MOST:
        raise InputError(f"{path}: a polygon has {len(start)} edges, too many for its size. Remedy: export masks.")
    top, bottom = int(first.min()), int(last.max())
    xs = start[:, 0]
    left, right = (int(np.clip(edge, 0, width)) for edge in (np.floor(xs.min()), np.ceil(xs.max())))
    flips = np.zeros((bottom - top, right - left + 1), np.uint8)
    for part in _portions(last - first):
        rows, columns = _crossings(upper[part], lower[part], first[part], last[part])
        columns = np.clip(columns, left, right)
        np.bitwise_xor.at(flips, (rows - top, columns - left), np.uint8(1))
    np.bitwise_xor.accumulate(flips, axis=1, out=flips)
    return top, left, flips[:, :-1].astype(np.bool_)


def _portions(rows: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Indices of edges in portions that cross few rows together."""
    cuts = np.flatnonzero(np.diff(np.cumsum(rows) // _AT_ONCE)) + 1
    return np.split(np.arange(len(rows)), cuts)


def _crossings(
    upper: NDArray[np.float64], lower: NDArray[np.float64], first: NDArray[np.int64], last: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """Rows that edges cross, and the first column whose centre lies to the right of the crossing."""
    counts = last - first
    edge = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edge]
    slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
    x = upper[edge, 0] + (rows + 0.5 - upper[edge, 1]) * slope[edge]
    return rows, np.ceil(x - 0.5).astype(np.int64)
