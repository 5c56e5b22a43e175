"""Padding of stitched pictures: regions of one exact value that begin at the border and end at straight edges.

A stitched mosaic, a turned picture and an aborted scan are filled up to a rectangle with one value, mostly black or white.
Material that the detector clips has one value too. The outline decides, see `outline.py`.

Two sizes of work: the border lines of each field, and for the few fields that have a long run of one value there, a map of
blocks and the outlines of its regions. Rows are read in stripes, so memory is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.material.outline import Outlines

PADDING = "padding"

# Pixels of one value in a row on the border line, below which no region begins there.
_RUN_PX = 24
# Blocks of the map: their side at least, and their number at most.
_BLOCK_PX, _MAX_BLOCKS = 4, 1 << 20
# Share of the picture that a region must have.
_LEAST_SHARE = 5e-4
_MAX_VALUES = 4
# Border columns of taller pictures are looked at in samples: a tile of rows is decoded for each.
_SAMPLE_PX, _SAMPLE_EVERY_PX, _SAMPLED_FROM_PX = 32, 512, 4096
_STRIPE_PX, _LEAST_ROWS = 4 << 20, 256

Rows = Callable[..., NDArray[Any]]
_Place = tuple[int | slice, int | slice]


@dataclass(frozen=True)
class _Region:
    """Blocks of a picture in which pixels of one value are padding.

    Attributes:
        value: the value.
        tolerance: how far a pixel may be from it.
        near: bool (down, across), True for blocks that hold padding, or touch one that does.
        side: side of a block in pixels.
    """

    value: float
    tolerance: int
    near: NDArray[np.bool_]
    side: int

    def pixels(self, block: NDArray[Any], start: int) -> NDArray[np.bool_]:
        """Which of the rows from `start` on, (n, width), are padding."""
        inside = _enlarged(self.near, self.side, start, block.shape)
        return np.asarray(_equal(block, self.value, self.tolerance) & inside)


def padding(rows: Rows, height: int, width: int, *, is_lossy: bool = False) -> Rows | None:
    """Find the padding of a picture.

    Args:
        rows: `rows(start, stop, left, right)` gives grey values (n, columns) of any type; all columns without the last two.
        height: rows of the picture.
        width: columns of the picture.
        is_lossy: whether the values come from JPEG, which changes them a little beside edges.

    Returns:
        A function of `start` and `stop` that gives bool (n, width), True for padding; None where there is none.

    Raises:
        FieldError: as `rows` does.
    """
    tolerance = 12 if is_lossy else 0
    regions = [
        region
        for value in _border_values(rows, height, width)
        if (region := _region(rows, height, width, value, tolerance)) is not None
    ]
    if not regions:
        return None

    def outside(start: int, stop: int) -> NDArray[np.bool_]:
        block = rows(start, stop)
        return np.asarray(np.logical_or.reduce([region.pixels(block, start) for region in regions]))

    return outside


def _border_values(rows: Rows, height: int, width: int) -> list[float]:
    """Values of the longest runs along the border that are a block deep, at most `_MAX_VALUES`."""
    longest: dict[float, int] = {}
    for strip in _border_strips(rows, height, width):
        if not _may_hold_run(strip):
            continue
        line, is_deep = strip[0], (strip[1:] == strip[:1]).all(axis=0)
        breaks = (line[1:] != line[:-1]) | ~is_deep[1:] | ~is_deep[:-1]
        ends = np.flatnonzero(np.append(breaks, True))
        lengths = np.diff(ends, prepend=-1)
        for end, length in zip(ends[lengths >= _RUN_PX], lengths[lengths >= _RUN_PX], strict=True):
            value = float(line[end])
            longest[value] = max(longest.get(value, 0), int(length))
    return sorted(longest, key=lambda value: -longest[value])[:_MAX_VALUES]


def _may_hold_run(strip: NDArray[Any]) -> bool:
    """Whether two of the pixels that a run must cover fit. Every field is asked, and most have no run."""
    sample = strip[:, :: _RUN_PX // 2]
    line, is_deep = sample[0], (sample[1:] == sample[:1]).all(axis=0)
    return bool(((line[1:] == line[:-1]) & is_deep[1:] & is_deep[:-1]).any())


def _border_strips(rows: Rows, height: int, width: int) -> Iterator[NDArray[Any]]:
    """Strips along the four sides, (_BLOCK_PX, length), or parts of them; the border line comes first."""
    yield rows(0, min(_BLOCK_PX, height))
    yield rows(max(0, height - _BLOCK_PX), height)[::-1]
    if height <= _SAMPLED_FROM_PX:
        samples = [(0, height)]
    else:
        samples = [(start, min(start + _SAMPLE_PX, height)) for start in range(0, height, _SAMPLE_EVERY_PX)]
    for start, stop in samples:
        yield rows(start, stop, 0, _BLOCK_PX).T
        yield rows(start, stop, max(0, width - _BLOCK_PX), width)[:, ::-1].T


def _region(rows: Rows, height: int, width: int, value: float, tolerance: int) -> _Region | None:
    """The blocks in which pixels of this value are padding, or None."""
    side = max(_BLOCK_PX, math.ceil(math.sqrt(height * width / _MAX_BLOCKS)))
    pure, lines = _pure_blocks(rows, height, width, value, tolerance, side)
    number, numbers, found, _ = cv2.connectedComponentsWithStats(pure.view(np.uint8), connectivity=4)
    large = found[:, cv2.CC_STAT_AREA] * side * side >= _LEAST_SHARE * height * width
    large[0] = False
    at_border = np.zeros(number, bool)
    at_border[np.concatenate([numbers[0], numbers[-1], numbers[:, 0], numbers[:, -1]])] = True
    if not (at_border & large).any():
        return None
    # The large regions alone have numbers from here on.
    renumbered = np.where(large, np.cumsum(large), 0).astype(np.int32)
    blocks = _Region(value, tolerance, large[numbers], side)
    regions = renumbered[numbers]
    is_padding = _padding_regions(rows, height, width, blocks, regions, np.append(False, at_border[large]))
    found_blocks = is_padding[regions]
    if not found_blocks.any():
        return None
    # Where a region narrows to a wedge along the border, no block is pure.
    for place, line in lines:
        found_blocks[place] |= _runs_that_touch(line, found_blocks[place])
    near = cv2.dilate(found_blocks.view(np.uint8), np.ones((3, 3), np.uint8)) > 0
    return _Region(value, tolerance, np.asarray(near), side)


def _pure_blocks(
    rows: Rows, height: int, width: int, value: float, tolerance: int, side: int
) -> tuple[NDArray[np.bool_], list[tuple[_Place, NDArray[np.bool_]]]]:
    """Blocks all of whose pixels have the value.

    Returns:
        bool (down, across), where blocks at the end may be smaller; and for each side of the map the blocks all of whose pixels
        on the border line have it.
    """
    across = math.ceil(width / side)
    bands, left, right = [], [], []
    top = bottom = np.empty(0, bool)
    step = max(side, _STRIPE_PX // width // side * side)
    for start in range(0, height, step):
        equal = _equal(rows(start, min(start + step, height)), value, tolerance)
        whole = np.ones((math.ceil(len(equal) / side) * side, across * side), bool)
        whole[: len(equal), :width] = equal
        blocks = whole.reshape(-1, side, across * side)
        bands.append(np.logical_and.reduce(blocks, axis=1).reshape(-1, across, side).all(axis=2))
        left.append(blocks[:, :, 0].all(axis=1))
        right.append(blocks[:, :, width - 1].all(axis=1))
        top = whole[0].reshape(across, side).all(axis=1) if start == 0 else top
        bottom = whole[len(equal) - 1].reshape(across, side).all(axis=1)
    lines: list[tuple[_Place, NDArray[np.bool_]]] = [
        ((0, slice(None)), top),
        ((-1, slice(None)), bottom),
        ((slice(None), 0), np.concatenate(left)),
        ((slice(None), -1), np.concatenate(right)),
    ]
    return np.concatenate(bands), lines


def _runs_that_touch(line: NDArray[np.bool_], touched: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The runs of True in a line that hold a place of `touched`."""
    numbers = np.cumsum(np.diff(line, prepend=False))
    return line & np.isin(numbers, numbers[line & touched])


def _padding_regions(
    rows: Rows, height: int, width: int, blocks: _Region, regions: NDArray[np.int32], at_border: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which regions are padding by their outlines, bool (regions + 1,).

    Args:
        rows: as in `padding`.
        height: rows of the picture.
        width: columns of the picture.
        blocks: the value and the blocks of all regions.
        regions: int32 (down, across), the number of each block's region, 0: none.
        at_border: bool (regions + 1,), whether a region touches the border.
    """
    side = blocks.side
    outlines = Outlines(len(at_border) - 1, width)
    # Points of an outline lie in the blocks around a region; the mask ends further out, where it adds no outline of its own.
    owner = _grown(regions, 1)
    around = replace(blocks, near=_grown(regions, 3) > 0)

    def stripes() -> Iterator[tuple[NDArray[Any], NDArray[np.bool_], NDArray[np.int32]]]:
        step = max(_LEAST_ROWS, _STRIPE_PX // width // side * side)
        for start in range(0, height, step):
            stop = min(start + step, height)
            if around.near[start // side : math.ceil(stop / side)].any():
                block = rows(start, stop)
                yield block, around.pixels(block, start), _enlarged(owner, side, start, block.shape)

    for _, mask, owners in stripes():
        outlines.add(mask, owners)
    if not outlines.straight(at_border).any():
        return np.zeros(len(at_border), bool)
    for block, mask, owners in stripes():
        outlines.add_sides(mask, owners, np.abs(block.astype(np.float32) - np.float32(blocks.value)))
    return outlines.padding(at_border)


def _grown(regions: NDArray[np.int32], blocks: int) -> NDArray[np.int32]:
    """Regions that are larger by so many blocks. OpenCV dilates no int32."""
    size = 2 * blocks + 1
    return np.asarray(cv2.dilate(regions.astype(np.float32), np.ones((size, size), np.uint8))).astype(np.int32)


def _equal(block: NDArray[Any], value: float, tolerance: int) -> NDArray[np.bool_]:
    if not tolerance:
        return np.asarray(block == block.dtype.type(value))
    return np.asarray(np.abs(block.astype(np.float32) - np.float32(value)) <= tolerance)


def _enlarged(blocks: NDArray[Any], side: int, start: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """The values of blocks at their pixels, for the rows from `start` on, of this shape."""
    rows = np.arange(start, start + shape[0]) // side
    return blocks[rows].repeat(side, axis=1)[:, : shape[1]]
