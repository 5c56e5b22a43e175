"""Tiles back to whole fields: the core of each tile is kept, its halo is dropped.

Every caller that computes a field in tiles uses this module, so that training, export and station join tiles alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.preparation.tiling import Tile, extract

Predict = Callable[[NDArray[np.uint8]], Sequence[NDArray[Any]]]


@dataclass(frozen=True)
class Band:
    """Complete rows of a field: all columns of the rows from `top` on.

    values: one array (..., height, width) for each array that was added with a tile.
    """

    top: int
    values: tuple[NDArray[Any], ...]


class BandStitcher:
    """Joins the tiles of a plan to bands of complete rows. It holds one band at a time, however tall the field is."""

    def __init__(self, width: int) -> None:
        """Args:
        width: width of the field in pixels of the network's grid.
        """
        self._width = width
        self._band: tuple[NDArray[Any], ...] = ()

    def add(self, tile: Tile, *values: NDArray[Any]) -> Band | None:
        """Take the next tile in the order of the plan (row by row, left to right).

        Args:
            tile: the tile's place.
            values: arrays (..., H, W) over the whole tile, halo included, in the same order for every tile.

        Returns:
            The band that this tile completes, else None. The arrays may be views of `values`.
        """
        cores = tuple(_core(tile, array) for array in values)
        if tile.core_width == self._width:  # the usual case costs no copy
            return Band(tile.core_top, cores)
        if not self._band:
            self._band = tuple(np.empty((*core.shape[:-1], self._width), core.dtype) for core in cores)
        right = tile.core_left + tile.core_width
        for array, core in zip(self._band, cores, strict=True):
            array[..., tile.core_left : right] = core
        if right < self._width:
            return None
        band, self._band = self._band, ()
        return Band(tile.core_top, band)


def predict_tiled(image: NDArray[np.uint8], plan: Sequence[Tile], predict: Predict) -> tuple[NDArray[Any], ...]:
    """Compute a whole field tile by tile.

    Args:
        image: a field on the network's grid, uint8 (h, w).
        plan: the tiles, as `plan_tiles` gives them for (h, w).
        predict: called with each tile, uint8 (H, W); returns arrays (..., H, W), the same number for every tile.

    Returns:
        The arrays of `predict` over the whole field, (..., h, w).
    """
    height, width = image.shape
    whole: tuple[NDArray[Any], ...] = ()
    for tile in plan:
        cores = [
            _core(tile, array) for array in predict(extract(lambda start, stop: image[start:stop], tile, height, width))
        ]
        whole = whole or tuple(np.empty((*core.shape[:-2], height, width), core.dtype) for core in cores)
        rows = slice(tile.core_top, tile.core_top + tile.core_height)
        columns = slice(tile.core_left, tile.core_left + tile.core_width)
        for array, core in zip(whole, cores, strict=True):
            array[..., rows, columns] = core
    return whole


def core_of(tile: Tile) -> tuple[slice, slice]:
    """Rows and columns of a tile's core within the tile."""
    top, left = tile.core_top - tile.top, tile.core_left - tile.left
    return slice(top, top + tile.core_height), slice(left, left + tile.core_width)


def _core(tile: Tile, values: NDArray[Any]) -> NDArray[Any]:
    return values[..., *core_of(tile)]
