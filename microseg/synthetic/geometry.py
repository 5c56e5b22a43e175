"""Continuous random geometry that can be sampled on any pixel grid: smooth fields, Voronoi cells, hashed numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int32]

_BLOCK_PX = 64


@dataclass(frozen=True)
class SamplingGrid:
    """Square pixels; the corner of the first pixel is the origin.

    Attributes:
        height: number of rows.
        width: number of columns.
        pixel_size_um: edge of a pixel in micrometres.
    """

    height: int
    width: int
    pixel_size_um: float

    @property
    def x_um(self) -> Floats:
        """Pixel centres along a row, float32 (width,)."""
        return ((np.arange(self.width) + 0.5) * self.pixel_size_um).astype(np.float32)

    @property
    def y_um(self) -> Floats:
        """Pixel centres along a column, float32 (height,)."""
        return ((np.arange(self.height) + 0.5) * self.pixel_size_um).astype(np.float32)

    def divided(self, factor: int) -> SamplingGrid:
        """The grid with each pixel cut into `factor` x `factor`."""
        return SamplingGrid(self.height * factor, self.width * factor, self.pixel_size_um / factor)


class SmoothNoise:
    """A cubic B-spline surface over random control points, of about unit variance, the same on every grid."""

    def __init__(
        self,
        rng: np.random.Generator,
        extent_um: tuple[float, float],
        spacing_um: float,
    ) -> None:
        """`extent_um` is (height, width); features are about `spacing_um` in size."""
        self.spacing_um = spacing_um
        rows, columns = (int(np.ceil(side / spacing_um)) + 6 for side in extent_um)
        # B-spline weights average: 2.1 brings the surface back to about unit variance.
        self.control: Floats = np.float32(2.1) * rng.standard_normal((rows, columns), dtype=np.float32)

    def sample(self, grid: SamplingGrid) -> Floats:
        """Values at the pixel centres, float32 (height, width)."""
        down = _spline_basis(grid.y_um / self.spacing_um, self.control.shape[0])
        across = _spline_basis(grid.x_um / self.spacing_um, self.control.shape[1])
        return np.asarray(down @ self.control @ across.T, np.float32)


def _spline_basis(position: Floats, count: int) -> Floats:
    """Cubic B-spline weights (positions, count) of control points that begin two spacings before the origin."""
    shifted = position.astype(np.float64) + 2.0
    distance = np.abs(shifted[:, None] - np.arange(count)[None, :])
    inner = 2.0 / 3.0 - distance**2 + distance**3 / 2.0
    outer = np.clip(2.0 - distance, 0.0, None) ** 3 / 6.0
    return np.where(distance < 1.0, inner, outer).astype(np.float32)


def scattered_points(
    rng: np.random.Generator,
    extent_um: tuple[float, float],
    spacing_um: float,
    drop: float,
) -> NDArray[np.float64]:
    """Points on a jittered grid with some left out, so that cells vary in size.

    They reach two spacings beyond the extent, so that cells at the border are like the others.

    Args:
        rng: random numbers.
        extent_um: (height, width) in micrometres.
        spacing_um: spacing of the grid in micrometres.
        drop: share of the points left out, 0-1.

    Returns:
        float64 (n, 2), x and y in micrometres.
    """
    rows, columns = (int(np.ceil(side / spacing_um)) + 4 for side in extent_um)
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float64)
    x += 0.5 * (y % 2)
    jitter = rng.uniform(-0.42, 0.42, (2, rows, columns))
    points = np.stack([x + jitter[0], y + jitter[1]], axis=-1).reshape(-1, 2)
    return (points[rng.random(len(points)) >= drop] - 1.75) * spacing_um


@dataclass(frozen=True)
class Cells:
    """Voronoi cells at every pixel.

    Attributes:
        nearest: index of the nearest seed, int32.
        second: index of the second nearest seed, int32.
        border_um: distance to the border between the two, float32, in micrometres.
    """

    nearest: Integers
    second: Integers
    border_um: Floats


def voronoi(x_um: Floats, y_um: Floats, seeds: NDArray[np.float64]) -> Cells:
    """Voronoi cells, block by block with the seeds that can be nearest there.

    Args:
        x_um: positions along a row, float32 (H, W).
        y_um: positions along a column, float32 (H, W).
        seeds: float64 (n, 2), x and y.
    """
    height, width = x_um.shape
    nearest = np.empty((height, width), np.int32)
    second = np.empty((height, width), np.int32)
    border = np.empty((height, width), np.float32)
    points = seeds.astype(np.float32)
    for top in range(0, height, _BLOCK_PX):
        for left in range(0, width, _BLOCK_PX):
            block = np.s_[top : top + _BLOCK_PX, left : left + _BLOCK_PX]
            nearest[block], second[block], border[block] = _two_nearest(x_um[block], y_um[block], points)
    return Cells(nearest, second, border)


def _two_nearest(x: Floats, y: Floats, points: Floats) -> tuple[Integers, Integers, Floats]:
    low = np.array([x.min(), y.min()])
    high = np.array([x.max(), y.max()])
    reach = float(np.hypot(*(high - low))) / 2
    to_centre = np.hypot(*(points - (low + high) / 2).T)
    # A seed farther from the centre than the second nearest by the block's diagonal is second nearest nowhere in it.
    candidates = np.flatnonzero(to_centre <= np.partition(to_centre, 1)[1] + 2 * reach)
    best = np.full(x.shape, np.inf, np.float32)
    next_best = np.full(x.shape, np.inf, np.float32)
    first = np.zeros(x.shape, np.int32)
    other = np.zeros(x.shape, np.int32)
    for index in candidates:
        squared = (x - points[index, 0]) ** 2 + (y - points[index, 1]) ** 2
        closest = squared < best
        closer = squared < next_best
        other = np.where(closest, first, np.where(closer, index, other))
        next_best = np.where(closest, best, np.where(closer, squared, next_best))
        first = np.where(closest, index, first)
        best = np.minimum(best, squared)
    between = np.hypot(*(points[first] - points[other]).transpose(2, 0, 1))
    return (
        first.astype(np.int32),
        other.astype(np.int32),
        (next_best - best) / (2 * np.maximum(between, 1e-3)),
    )


class Hash:
    """Fixed random numbers from 0 to 1 for integer keys. The same key has the same number on every grid."""

    _SIZE = 8192

    def __init__(self, rng: np.random.Generator) -> None:
        """Draw the table of numbers once."""
        self.table: Floats = rng.random(self._SIZE, dtype=np.float32)

    def __call__(self, key: Integers, salt: int = 0) -> Floats:
        """One number for each key, independent between salts."""
        mixed = (key.astype(np.int64) * 2654435761 + salt * 40503) & 0xFFFFFFFF
        return np.take(self.table, (mixed ^ (mixed >> 15)) & (self._SIZE - 1))

    def along(self, key: Integers, position: Floats, salt: int = 0) -> Floats:
        """Smooth random values from 0 to 1 along a line: one line for each key, one knot for each unit of `position`."""
        knot = np.floor(position)
        share = position - knot
        share = share * share * (3 - 2 * share)
        start = key * 977 + knot.astype(np.int32)
        return self(start, salt) * (1 - share) + self(start + 1, salt) * share
