"""Overlap-tile plans (Ronneberger et al. 2015): cores partition a field, and each tile adds a halo of real neighbours.

Position and size of a tile are multiples of the network's stride, so that pooling sees one grid in a tile and in the whole
field. The border of the field is mirrored up to the next multiple of the stride, and no further.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError


@dataclass(frozen=True)
class Tile:
    """A tile and its core, in pixels of the network's grid. Both positions are those in the field.

    A tile may reach beyond the field at the bottom and at the right: these rows and columns are mirrored.

    Attributes:
        top, left, height, width: the tile.
        core_top, core_left, core_height, core_width: the part of it that is counted.
    """

    top: int
    left: int
    height: int
    width: int
    core_top: int
    core_left: int
    core_height: int
    core_width: int


def plan_tiles(
    height: int, width: int, stride: int, halo_px: int, max_pixels: int, max_side_px: int | None = None
) -> list[Tile]:
    """Tiles of one shape whose cores partition a field, row by row. Of all plans, the one with the fewest pixels.

    A field that fits into one tile is one tile, mirrored up to the next multiple of the stride.

    Args:
        height: rows of the field, in pixels of the network's grid.
        width: columns of the field.
        stride: sides of tiles are multiples of it, in pixels.
        halo_px: pixels around a core that the network sees.
        max_pixels: the most pixels of a tile.
        max_side_px: the longest side of a tile; None: any.

    Raises:
        FieldError: not even the smallest tile with its halo fits.
    """
    down, across = _ceil_to(height, stride), _ceil_to(width, stride)
    side = max(down, across) if max_side_px is None else max_side_px
    if down * across <= max_pixels and max(down, across) <= side:
        return [_tile((0, down, 0, height), (0, across, 0, width))]
    best: tuple[int, int, int] | None = None
    columns = 1
    while True:
        tile_width = _tile_side(across, columns, stride, halo_px)
        largest = min(max_pixels // tile_width, side) // stride * stride
        rows = _rows_for(down, largest, stride, halo_px) if tile_width <= side else None
        if rows is not None:
            cost = rows * columns * _tile_side(down, rows, stride, halo_px) * tile_width
            if best is None or cost < best[0]:
                best = (cost, rows, columns)
        if columns > 1 and tile_width <= _ceil_to(2 * halo_px + stride, stride):
            break
        if columns * stride >= across:
            break
        columns += 1
    if best is None:
        raise FieldError(
            f"no tile with a halo of {halo_px} px fits into {max_pixels} px and {side} px a side. "
            "Remedy: a larger --memory-mb, or a plan for larger tiles."
        )
    _, rows, columns = best
    return [
        _tile(span_y, span_x)
        for span_y in _spans(height, down, rows, stride, halo_px)
        for span_x in _spans(width, across, columns, stride, halo_px)
    ]


def extract(rows: Callable[[int, int], NDArray[np.uint8]], tile: Tile, height: int, width: int) -> NDArray[np.uint8]:
    """Cut a tile out of a field, and mirror what lies outside.

    Args:
        rows: `rows(start, stop)` gives rows of the field, uint8 (stop - start, width).
        tile: the tile.
        height: rows of the field.
        width: columns of the field.

    Returns:
        uint8 (tile.height, tile.width).
    """
    bottom, right = min(tile.top + tile.height, height), min(tile.left + tile.width, width)
    missing_y, missing_x = tile.top + tile.height - bottom, tile.left + tile.width - right
    # A mirror needs as many rows inside as outside; a tile at the border may start too late for it.
    top, left = max(0, min(tile.top, bottom - missing_y - 1)), max(0, min(tile.left, right - missing_x - 1))
    inside = rows(top, bottom)[:, left:right]
    if missing_y or missing_x:
        inside = mirror(inside, 0, missing_y, 0, missing_x)
    cut = inside[tile.top - top : tile.top - top + tile.height, tile.left - left : tile.left - left + tile.width]
    return np.ascontiguousarray(cut)


def mirror(image: NDArray[np.uint8], top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
    """Mirror an image (H, W) over its borders without repeating the edge. A side of one pixel is repeated.

    Args:
        image: uint8 (H, W).
        top: rows to add above.
        bottom: rows to add below.
        left: columns to add at the left.
        right: columns to add at the right.
    """
    pads = ((top, bottom), (left, right))
    for axis, pad in enumerate(pads):
        if any(pad):
            widths = [(0, 0), (0, 0)]
            widths[axis] = pad
            image = np.pad(image, widths, mode="reflect" if image.shape[axis] > 1 else "edge")
    return image


def _tile(down: tuple[int, int, int, int], across: tuple[int, int, int, int]) -> Tile:
    """The tile of a span down and a span across, as `_spans` gives them."""
    top, height, core_top, core_height = down
    left, width, core_left, core_width = across
    return Tile(
        top, left, height, width, core_top=core_top, core_left=core_left, core_height=core_height, core_width=core_width
    )


def _ceil_to(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def _tile_side(padded: int, parts: int, stride: int, halo_px: int) -> int:
    """Side of the tiles that cut a padded side into `parts`, with halo: a multiple of the stride."""
    if parts == 1:
        return padded
    core = _ceil_to(math.ceil(padded / parts), stride)
    return min(padded, core + 2 * _ceil_to(halo_px, stride))


def _rows_for(padded: int, largest: int, stride: int, halo_px: int) -> int | None:
    """The fewest parts whose tile side is at most `largest`, or None."""
    if padded <= largest:
        return 1
    core = largest - 2 * _ceil_to(halo_px, stride)
    return None if core < stride else math.ceil(padded / (core // stride * stride))


def _spans(size: int, padded: int, parts: int, stride: int, halo_px: int) -> list[tuple[int, int, int, int]]:
    """(tile start, tile size, core start, core size) along one axis. Tiles stay inside the padded side."""
    side = _tile_side(padded, parts, stride, halo_px)
    core = _ceil_to(math.ceil(padded / parts), stride)
    halo = _ceil_to(halo_px, stride)
    spans = []
    for start in range(0, size, core):
        tile_start = max(0, min(start - halo, padded - side))
        spans.append((tile_start, side, start, min(core, size - start)))
    return spans
