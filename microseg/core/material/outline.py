"""Outlines of regions of one value: of padding they are straight and sharp, of clipped material ragged or soft.

Padding ends at the edges of the pictures that it surrounds: straight lines of two directions at right angles, exact to a
pixel, beside which the material begins at once. Noise, grains and pores make the outline of clipped material ragged. A flat
layer has a straight one, but the microscope's optics blur it: beside the clipped pixels the grey values rise over several
pixels. It also has one direction only.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

# Points of an outline that are tried for a straight line together, and the largest variance across it in square pixels: a line
# drawn in pixels has 1/12 in the mean.
_WINDOW, _STRAIGHT_VARIANCE, _EXACT_VARIANCE = 48, 0.2, 1e-9
# Share of the outline that must be straight and along two directions at right angles, which may differ by some degrees: single
# pictures of a mosaic are turned a little. Of clipped material 0.42 was the most, of 2,590 fields that were clipped on purpose.
# Where one region has proved that the value is padding, material of that value may hide more of the outline of others.
_STRAIGHT_SHARE, _OTHERS_SHARE, _DIRECTION_DEGREES = 0.6, 0.3, 3
# Share of the outline in the second direction, below which there is only one.
_SECOND_SHARE = 0.05
# Mean distance from the value one and two pixels beside the outline, as shares of that further away. Where an editor turned the
# picture, the first pixel is half of each.
_FIRST_SHARE, _SECOND_PIXEL_SHARE, _AT_ONCE_SHARE = 0.25, 0.85, 0.7
_FURTHER_PX = (5, 8)
# Material beside the padding may hold its value too: specks up to this size are taken off. A half plane stays what it is.
_SPECK_PX = 7


class Outlines:
    """Collects the outlines of numbered regions from stripes of a picture."""

    def __init__(self, regions: int, width: int) -> None:
        """Args:
        regions: number of regions; they are numbered from 1.
        width: columns of the picture.
        """
        self._width = width
        self._points = np.zeros(regions + 1, np.int64)
        self._exact = np.zeros(regions + 1, np.int64)
        self._directions = np.zeros((regions + 1, 180), np.int64)
        # Distance from the value in the first and the second pixel beside a region, and further away: sum and number.
        self._beside = np.zeros((regions + 1, 3), np.float64)
        self._beside_px = np.zeros((regions + 1, 3), np.int64)

    def add(self, mask: NDArray[np.bool_], owners: NDArray[np.int32]) -> None:
        """Add the outlines in a stripe.

        Args:
            mask: bool (n, width), True for pixels of the value.
            owners: int32 (n, width), number of the region whose outline is there, 0: none.
        """
        outlines, _ = cv2.findContours(_without_specks(mask), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        for outline in outlines:
            x, y = outline[:, 0, 0], outline[:, 0, 1]
            inner = (x > 0) & (x < self._width - 1) & (y > 0) & (y < len(mask) - 1)
            self._add_outline(x, y, np.where(inner, owners[y, x], 0))

    def add_sides(self, mask: NDArray[np.bool_], owners: NDArray[np.int32], distance: NDArray[np.float32]) -> None:
        """Add what lies beside the outlines in a stripe.

        Args:
            mask: as in `add`.
            owners: as in `add`.
            distance: float32 (n, width), difference of each pixel from the value.
        """
        beside = np.asarray(cv2.distanceTransform(1 - _without_specks(mask), cv2.DIST_C, 3))
        size = 2 * _FURTHER_PX[1] + 1
        near = np.asarray(cv2.dilate(owners.astype(np.float32), np.ones((size, size), np.uint8)))
        for index, (low, high) in enumerate(((1, 1), (2, 2), _FURTHER_PX)):
            ring = (beside > low - 0.5) & (beside < high + 0.5)
            numbers = near[ring].astype(np.int32)
            self._beside[:, index] += np.bincount(numbers, distance[ring], len(self._points))
            self._beside_px[:, index] += np.bincount(numbers, minlength=len(self._points))

    def straight(self, at_border: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Regions at the border with an outline that is straight in two directions at right angles, bool (regions + 1,).

        Args:
            at_border: bool (regions + 1,), whether a region touches the border.
        """
        return at_border & (self._shares() >= _STRAIGHT_SHARE)

    def padding(self, at_border: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Regions that are padding, bool (regions + 1,). Only one at the border can prove that the value is padding.

        Args:
            at_border: bool (regions + 1,), whether a region touches the border.
        """
        shares, proving = self._shares(), self.straight(at_border)
        if not proving.any() or not self._is_sharp(proving):
            return np.zeros(len(shares), bool)
        return np.asarray(shares >= np.where(at_border, _OTHERS_SHARE, _STRAIGHT_SHARE))

    def _shares(self) -> NDArray[np.float64]:
        """Share of each outline along the two directions that most of it has, 0-1; 0 of hardly an outline."""
        reach = range(-_DIRECTION_DEGREES, _DIRECTION_DEGREES + 1)
        near = np.sum([np.roll(self._directions, shift, axis=1) for shift in reach], axis=0)
        shares = (near + np.roll(near, 90, axis=1)).max(axis=1) / np.maximum(self._points, 1)
        shares[self._points < _WINDOW] = 0
        shares[0] = 0
        return np.asarray(shares)

    def _is_sharp(self, regions: NDArray[np.bool_]) -> bool:
        """Whether the material begins at once beside these regions."""
        sums, pixels = self._beside[regions].sum(axis=0), self._beside_px[regions].sum(axis=0)
        first, second, further = sums / np.maximum(pixels, 1)
        if first < _FIRST_SHARE * further or second < _SECOND_PIXEL_SHARE * further:
            return False
        directions = self._directions[regions].sum(axis=0)
        best = int(directions.argmax())
        reach = np.arange(-_DIRECTION_DEGREES, _DIRECTION_DEGREES + 1)
        across = directions[(best + 90 + reach) % 180].sum()
        if across >= _SECOND_SHARE * self._points[regions].sum():
            return True
        # One direction only: an aborted scan ends at a row or a column of pixels, unblurred by any turning.
        exact = self._exact[regions].sum()
        return bool(exact >= 0.9 * directions.sum() and first >= _AT_ONCE_SHARE * further)

    def _add_outline(self, x: NDArray[Any], y: NDArray[Any], owners: NDArray[np.int32]) -> None:
        """Count the points of an outline in order, and the directions of those in the middle of a straight window."""
        self._points += np.bincount(owners, minlength=len(self._points))
        if len(x) < 2 * _WINDOW:
            return
        # An outline is closed: windows go on at its beginning.
        order = np.arange(-(_WINDOW // 2), len(x) + _WINDOW // 2 - 1) % len(x)
        u, v, inner = (array[order].astype(np.float64) for array in (x - x[0], y - y[0], owners > 0))
        sums = [np.cumsum(np.insert(values, 0, 0.0)) for values in (u, v, u * u, v * v, u * v, inner)]
        mean_u, mean_v, uu, vv, uv, share = ((total[_WINDOW:] - total[:-_WINDOW]) / _WINDOW for total in sums)
        uu, vv, uv = uu - mean_u**2, vv - mean_v**2, uv - mean_u * mean_v
        across = (uu + vv) / 2 - np.sqrt(((uu - vv) / 2) ** 2 + uv**2)
        is_straight = (across <= _STRAIGHT_VARIANCE) & (share > 1 - 0.5 / _WINDOW) & (owners > 0)
        degrees = np.rint(np.degrees(0.5 * np.arctan2(2 * uv, uu - vv))).astype(np.int64) % 180
        found = np.bincount(owners[is_straight] * 180 + degrees[is_straight], minlength=self._directions.size)
        self._directions += found.reshape(self._directions.shape)
        is_exact = is_straight & (np.minimum(uu, vv) <= _EXACT_VARIANCE)
        self._exact += np.bincount(owners[is_exact], minlength=len(self._points))


def _without_specks(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    speck = np.ones((_SPECK_PX, _SPECK_PX), np.uint8)
    return np.asarray(cv2.morphologyEx(mask.view(np.uint8), cv2.MORPH_OPEN, speck), np.uint8)
