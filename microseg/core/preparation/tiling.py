"""Overlap-tile plans (Ronneberger et al. 2015): cores partition a field, tiles add real neighbours as halo.

At inference a tile's origin and size are multiples of the network's stride, so that pooling sees the same grid in a tile
as in the whole field; the border is mirrored only up to the next multiple of the stride.
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
    """A tile and its core, in pixels of the network's grid; the core's position is absolute too.

    The tile may exceed the field at the bottom and right: those rows and columns are mirrored.
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
    """Tiles of one shape, row by row, whose cores partition a `height` x `width` field; the least pixels win.

    A field that fits into `max_pixels` and `max_side_px` (mirrored to the stride multiple) is one tile. Raises
    FieldError if not even the smallest tile with its halo fits.
    """
    down, across = _ceil_to(height, stride), _ceil_to(width, stride)
    side = max(down, across) if max_side_px is None else max_side_px
    if down * across <= max_pixels and max(down, across) <= side:
        return [Tile(0, 0, down, across, 0, 0, height, width)]
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
    spans_y = _spans(height, down, rows, stride, halo_px)
    spans_x = _spans(width, across, columns, stride, halo_px)
    return [
        Tile(top, left, tile_height, tile_width, core_top, core_left, core_height, core_width)
        for top, tile_height, core_top, core_height in spans_y
        for left, tile_width, core_left, core_width in spans_x
    ]


def extract(rows: Callable[[int, int], NDArray[np.uint8]], tile: Tile, height: int, width: int) -> NDArray[np.uint8]:
    """Cut `tile` out of a field given by `rows(start, stop)` -> uint8 (stop - start, width); mirror what lies outside.

    Returns uint8 (tile.height, tile.width).
    """
    bottom, right = min(tile.top + tile.height, height), min(tile.left + tile.width, width)
    missing_y, missing_x = tile.top + tile.height - bottom, tile.left + tile.width - right
    # A mirror needs as many rows inside as outside; a tile at the border may start too late for that.
    top, left = max(0, min(tile.top, bottom - missing_y - 1)), max(0, min(tile.left, right - missing_x - 1))
    inside = rows(top, bottom)[:, left:right]
    if missing_y or missing_x:
        inside = mirror(inside, 0, missing_y, 0, missing_x)
    cut = inside[tile.top - top : tile.top - top + tile.height, tile.left - left : tile.left - left + tile.width]
    return np.ascontiguousarray(cut)


def mirror(image: NDArray[np.uint8], top: int, bottom: int, left: int, right: int) -> NDArray[np.uint8]:
    """Mirror an image (H, W) over its borders without repeating the edge; a side of one pixel is repeated."""
    pads = ((top, bottom), (left, right))
    for axis, pad in enumerate(pads):
        if any(pad):
            widths = [(0, 0), (0, 0)]
            widths[axis] = pad
            image = np.pad(image, widths, mode="reflect" if image.shape[axis] > 1 else "edge")
    return image


def _ceil_to(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def _tile_side(padded: int, parts: int, stride: int, halo_px: int) -> int:
    """Side of the tiles that cut a padded side into `parts`, halo included, a multiple of the stride."""
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
    """(tile start, tile size, core start, core size) along one axis; tiles stay inside the padded side."""
    side = _tile_side(padded, parts, stride, halo_px)
    core = _ceil_to(math.ceil(padded / parts), stride)
    halo = _ceil_to(halo_px, stride)
    spans = []
    for start in range(0, size, core):
        tile_start = max(0, min(start - halo, padded - side))
        spans.append((tile_start, side, start, min(core, size - start)))
    return spans
