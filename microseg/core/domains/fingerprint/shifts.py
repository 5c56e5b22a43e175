"""Labels that lie beside their picture: moved by some pixels, their borders meet the grey edges better."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED

# Largest move that is tried, in px.
REACH_PX = 14
# Pixels of borders that are taken of each part of a field, and are needed.
_SAMPLES, _FEWEST_SAMPLES = 1000, 40
# Share of the parts that must agree.
_MOST = 0.75
# Pixels of borders that show whether a closer look is due: most labels lie where they belong.
_FIRST_LOOK = 600
# Borders drawn by hand lie within this of the edges.
_CAREFUL_PX = 2.0
# The contrast below the borders must rise by this factor, above what it is beside them, and be so much above that of the
# opposite move.
_GAIN, _ONE_SIDED = 1.25, 1.7
_BLUR_PX = 1.5
_SIDE_PX = 1024


@dataclass(frozen=True)
class Shift:
    """How labels must be moved.

    Attributes:
        dy_px, dx_px: rows downwards and columns to the right.
        edges_here: mean contrast below the borders as they are, in units of the field's mean.
        edges_moved: the same after the move.
    """

    dy_px: int
    dx_px: int
    edges_here: float
    edges_moved: float


def shift_of(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Shift | None:
    """The move after which the labels of a field fit its picture clearly better.

    Borders between phases follow edges or etched lines of the picture. What shows these is strongest where the labels belong.
    Labels count as shifted where the parts of the field agree on one move, and the opposite move is no better than others:
    borders that were drawn too far outside, or on both sides of a line, do not.

    Args:
        image: uint8 (h, w).
        labels: phase indices, uint8 (h, w), 255 where unlabelled.

    Returns:
        The move; None where the labels fit as they are, or the borders are too few to tell.
    """
    rows, columns = _busiest(labels)
    places = _border_places(labels[rows, columns])
    if not places:
        return None
    blurred = np.asarray(cv2.GaussianBlur(image[rows, columns].astype(np.float32), (0, 0), _BLUR_PX), np.float32)
    edges = _edges(blurred)
    everywhere = np.concatenate(places)
    if _is_careful(contrast_by_move(_in_units_of_mean(edges), everywhere[:: 1 + len(everywhere) // _FIRST_LOOK])):
        return None
    return _agreed(edges, places) or _agreed(np.hypot(edges, _BLUR_PX * _lines(blurred)), places)


def _agreed(contrast: NDArray[np.float32], places: list[NDArray[np.int64]]) -> Shift | None:
    """The move on which the parts of a field agree by what `contrast` shows; None where they do not, or none is due."""
    parts = [contrast_by_move(_in_units_of_mean(contrast), part) for part in places]
    mean = np.mean(parts, axis=0)
    if _is_careful(mean):
        return None
    dy, dx = _best(mean)
    here, opposite = float(mean[REACH_PX, REACH_PX]), float(mean[REACH_PX - dy, REACH_PX - dx])
    moved, beside = float(mean.max()), float(np.median(mean))
    if moved - beside < max(_GAIN * (here - beside), _ONE_SIDED * (opposite - beside), (_GAIN - 1) * beside):
        return None
    votes = [_best(part) for part in parts]
    agree = sum(max(abs(down - dy), abs(right - dx)) <= 1 for down, right in votes)
    return Shift(dy, dx, here, moved) if agree >= _MOST * len(parts) else None


def _is_careful(means: NDArray[np.float64]) -> bool:
    """Whether the borders lie as near to the edges as a careful hand draws them."""
    return bool(np.hypot(*_best(means)) < _CAREFUL_PX)


def contrast_by_move(contrast: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean contrast below borders for every move.

    Args:
        contrast: float32 (h, w).
        places: (N, 2) of row and column, at least `REACH_PX` from the border of the field.

    Returns:
        float64 (2 R + 1, 2 R + 1), by rows downwards and columns to the right.
    """
    side = 2 * REACH_PX + 1
    around = np.lib.stride_tricks.sliding_window_view(contrast, (side, side))
    return np.asarray(around[places[:, 0] - REACH_PX, places[:, 1] - REACH_PX].mean(0, dtype=np.float64))


def _busiest(labels: NDArray[np.uint8]) -> tuple[slice, slice]:
    """The part of a large field that holds most borders."""
    best, found = -1, (slice(0, _SIDE_PX), slice(0, _SIDE_PX))
    for top in range(0, labels.shape[0], _SIDE_PX):
        for left in range(0, labels.shape[1], _SIDE_PX):
            window = (slice(top, top + _SIDE_PX), slice(left, left + _SIDE_PX))
            count = int(np.count_nonzero(_borders(labels[window])))
            if count > best:
                best, found = count, window
    return found


def _borders(labels: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixels with another phase to the right or below."""
    found = np.zeros(labels.shape, np.bool_)
    for here, there, place in (
        (labels[:, :-1], labels[:, 1:], found[:, :-1]),
        (labels[:-1], labels[1:], found[:-1]),
    ):
        place |= (here != there) & (here != UNLABELLED) & (there != UNLABELLED)
    return found


def _border_places(labels: NDArray[np.uint8]) -> list[NDArray[np.int64]]:
    """Pixels of borders in four parts of a field that hold as many of them, evenly thinned; none where they are few."""
    inner = np.zeros(labels.shape, np.bool_)
    middle = (slice(REACH_PX, -REACH_PX), slice(REACH_PX, -REACH_PX))
    inner[middle] = _borders(labels)[middle]
    places = np.argwhere(inner)
    if len(places) < 4 * _FEWEST_SAMPLES:
        return []
    halves = np.array_split(places, 2)  # by rows, in which they come
    parts = [part for half in halves for part in np.array_split(half[np.argsort(half[:, 1], kind="stable")], 2)]
    return [part[:: 1 + len(part) // _SAMPLES] for part in parts]


def _edges(blurred: NDArray[np.float32]) -> NDArray[np.float32]:
    """Size of the grey gradient in grey values a pixel."""
    down, right = (cv2.Sobel(blurred, cv2.CV_32F, *order, scale=1 / 8) for order in ((0, 1), (1, 0)))
    return np.hypot(down, right, dtype=np.float32)


def _lines(blurred: NDArray[np.float32]) -> NDArray[np.float32]:
    """Size of the second derivatives, which is large in the middle of a line, where the gradient vanishes."""
    down, right, both = (cv2.Sobel(blurred, cv2.CV_32F, *order, scale=1 / 4) for order in ((0, 2), (2, 0), (1, 1)))
    return np.asarray(np.sqrt(down**2 + right**2 + 2 * both**2), np.float32)


def _in_units_of_mean(contrast: NDArray[np.float32]) -> NDArray[np.float32]:
    """Contrast in units of its mean, without the strongest edges' lead."""
    limited = np.minimum(contrast, np.percentile(contrast[::3, ::3], 99)).astype(np.float32)
    return limited / max(float(limited.mean()), 1e-6)


def _best(means: NDArray[np.float64]) -> tuple[int, int]:
    """The move with the largest mean contrast."""
    row, column = divmod(int(means.argmax()), means.shape[1])
    return row - REACH_PX, column - REACH_PX
