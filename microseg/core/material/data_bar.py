"""The data bar that a microscope adds to its picture, found in the grey values.

A bar is a band at the top or the bottom over the whole width, with one background value and text or lines of few others. It
begins at once: the first of its rows is empty or a line, and the row before it is material. Material that a detector clips has
neither such rows nor such an edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Rows = Callable[[int, int], NDArray[Any]]

# Rows of a bar: at least, and at most as a share of the picture.
_LEAST_ROWS, _MOST_SHARE = 8, 0.3
# Rows at the very edge that are looked at first, and the share of one value that one of them must have.
_EDGE_ROWS, _EDGE_SHARE = 4, 0.6
# Share of the background in any row with text, in a row without, and of one value in a line across the bar.
_TEXT_ROW_SHARE, _EMPTY_ROW_SHARE, _LINE_SHARE = 0.2, 0.97, 0.9
# Rows of material before the bar, and the largest share of the background in them.
_BEFORE_ROWS, _BEFORE_SHARE = 4, 0.65
# Of a bar with text: rows without text, background, and the commonest value of the text in the text. Between the two values for
# each, a band may be a bar, and may be none.
_SURE, _POSSIBLE = (0.1, 0.45, 0.15), (0.05, 0.35, 0.05)
# Share of the text in the bar at least, its distance from the background as a share of the material's, and how much fuller rows
# with text are than others: specks in a clipped layer lie in all rows alike.
_LEAST_TEXT, _TEXT_CONTRAST, _FULLER = 0.004, 0.1, 4
# Material begins at once: distance from the background in the first and the second row before the bar, as shares of that
# further away. A picture that was made smaller with its bar mixes the first row.
_SHARP, _MIXED, _FURTHER_ROWS = (0.7, 0.85), (0.25, 0.6), (5, 9)
_LOSSY_TOLERANCE = 16


@dataclass(frozen=True)
class FoundBar:
    """A band that looks like a data bar.

    Attributes:
        rows: its rows.
        is_sure: whether it is nothing else.
        is_uniform: whether it holds one value alone.
    """

    rows: int
    is_sure: bool
    is_uniform: bool


def find_bar(rows: Rows, height: int, width: int, *, at_top: bool, is_lossy: bool = False) -> FoundBar | None:
    """Find a data bar at one edge of a picture.

    Args:
        rows: `rows(start, stop)` gives grey values (n, width), of any type.
        height: rows of the picture.
        width: columns of the picture.
        at_top: whether the bar is looked for at the top, else at the bottom.
        is_lossy: whether the values come from JPEG, which changes them a little beside edges.

    Returns:
        The bar, or None.
    """

    def inwards(start: int, stop: int) -> NDArray[Any]:
        """Rows counted from the edge."""
        return rows(start, stop) if at_top else rows(height - stop, height - start)[::-1]

    tolerance = _LOSSY_TOLERANCE if is_lossy else 0
    if height < 4 * _LEAST_ROWS:
        return None
    edge = inwards(0, _EDGE_ROWS)
    modes = [_mode(row) for row in edge]
    # A JPEG of material may be as even as the usual tolerance, but a row of a bar is evener.
    values = {mode for mode, row in zip(modes, edge, strict=True) if _share(row, mode, tolerance // 4) >= _EDGE_SHARE}
    if not values:
        return None
    block = inwards(0, min(int(_MOST_SHARE * height) + _FURTHER_ROWS[1], height))
    # A frame around the bar has another value than its background.
    inner = [(_mode(row), row) for row in block[_EDGE_ROWS:_LEAST_ROWS]]
    values |= {mode for mode, row in inner if _share(row, mode, tolerance) >= _TEXT_ROW_SHARE}
    found = [_bar_of(block, value, tolerance) for value in values]
    return max(filter(None, found), key=lambda bar: (bar.is_sure, bar.rows), default=None)


def looks_like_bar(band: NDArray[Any], *, is_lossy: bool = False) -> bool:
    """Whether rows that a file states as its data bar hold one: a background with text, or one value.

    Args:
        band: grey values (n, width).
        is_lossy: as in `find_bar`.
    """
    value, tolerance = _mode(band.ravel()), _LOSSY_TOLERANCE if is_lossy else 0
    return bool(_shares(band, value, tolerance).mean() >= _POSSIBLE[1])


def _bar_of(block: NDArray[Any], value: float, tolerance: int) -> FoundBar | None:
    """The bar with this background among rows that are counted from the edge."""
    shares = _shares(block, value, tolerance)
    middles = np.median(block, axis=1, keepdims=True)
    is_line = (np.abs(block - middles) <= tolerance).mean(axis=1) >= _LINE_SHARE
    is_clear = (shares >= _EMPTY_ROW_SHARE) | is_line
    inside = (shares >= _TEXT_ROW_SHARE) | is_line
    clear = np.flatnonzero(is_clear[: len(inside) if inside.all() else int(np.argmin(inside))])
    if not len(clear):
        return None
    rows = int(clear[-1]) + 1
    if not _LEAST_ROWS <= rows <= len(block) - _FURTHER_ROWS[1]:
        return None
    distance = np.abs(block[: rows + _FURTHER_ROWS[1]].astype(np.float64) - value)
    material = max(float(distance[rows + _FURTHER_ROWS[0] - 1 :].mean()), 1e-9)
    before = distance[rows:].mean(axis=1) / material
    is_uniform = bool((shares[:rows] >= _EMPTY_ROW_SHARE).all())
    is_sharp = bool((before[:2] >= _SHARP).all())
    is_mixed = bool((before[:2] >= _MIXED).all()) and not is_uniform
    if not (is_sharp or is_mixed) or shares[rows : rows + _BEFORE_ROWS].max() > _BEFORE_SHARE:
        return None
    if is_uniform:
        return FoundBar(rows, True, True)
    others = block[:rows][distance[:rows] > tolerance]
    text = _mode(others)
    filled = 1 - shares[:rows][~is_line[:rows] | (shares[:rows] >= _EDGE_SHARE)]
    emptier, fuller = np.percentile(filled, (10, 90)) if len(filled) else (0.0, 0.0)
    is_text = (
        others.size >= _LEAST_TEXT * rows * block.shape[1]
        and abs(text - value) >= _TEXT_CONTRAST * material
        and fuller >= _FULLER * emptier
    )
    told = (is_clear[:rows].mean(), shares[:rows].mean(), _share(others, text, max(tolerance, 1)))
    if not is_text or any(share < least for share, least in zip(told, _POSSIBLE, strict=True)):
        return None
    return FoundBar(rows, is_sharp and all(share >= least for share, least in zip(told, _SURE, strict=True)), False)


def _mode(values: NDArray[Any]) -> float:
    """The commonest value."""
    if values.dtype.kind == "u":
        return float(np.bincount(values.ravel()).argmax())
    found, counts = np.unique(values[np.isfinite(values)], return_counts=True)
    return float(found[counts.argmax()]) if len(found) else 0.0


def _share(values: NDArray[Any], value: float, tolerance: int) -> float:
    return np.count_nonzero(_equal(values, value, tolerance)) / max(values.size, 1)


def _shares(block: NDArray[Any], value: float, tolerance: int) -> NDArray[np.float64]:
    """Share of a value in each row."""
    return np.asarray(_equal(block, value, tolerance).mean(axis=1))


def _equal(values: NDArray[Any], value: float, tolerance: int) -> NDArray[np.bool_]:
    if not tolerance:
        return np.asarray(values == values.dtype.type(value))
    return np.asarray(np.abs(values.astype(np.float32) - np.float32(value)) <= tolerance)
