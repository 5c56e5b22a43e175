"""Colour in a micrograph: grey stored as colour is grey; pixels that are coloured are counted and found."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.raster import Raster
from microseg.core.schemas.preparation import Crop

# Programs store grey as colour, and lossy codecs round it there: the channels of a grey pixel differ by this much of 255.
_TOLERANCE, _JPEG_TOLERANCE = 3, 8
# A larger coloured share is a colour image rather than marks on a grey one.
_MARKS = 0.2
_BLOCK_PX = 1 << 22


@dataclass(frozen=True)
class Coloured:
    """The coloured pixels of a part of an image.

    Attributes:
        count: how many they are.
        pixels: number of all pixels.
        rows, columns: the first and the last one that has any.
    """

    count: int
    pixels: int
    rows: tuple[int, int]
    columns: tuple[int, int]

    @property
    def share(self) -> float:
        """Their share, 0-1."""
        return self.count / self.pixels

    @property
    def text(self) -> str:
        """How many they are, and where."""
        return (
            f"{self.count} of {self.pixels} px ({self.share:.2%}) are coloured, in rows {self.rows[0]} to {self.rows[1]} "
            f"and columns {self.columns[0]} to {self.columns[1]}"
        )

    def refused(self, path: Path) -> FieldError:
        """The error for a field with them."""
        percent = math.ceil(1000 * self.share) / 10
        marks = f"; or --allow-coloured {percent:g}, which leaves these pixels out" if self.share <= _MARKS else ""
        return FieldError(
            f"{path}: {self.text}. Remedy: save it as grey, or save the one channel to be measured; or cut the coloured part "
            f"off with `crop` in domain.yaml{marks}."
        )


def grey_channel(block: NDArray[Any], lossy: bool) -> NDArray[Any] | None:
    """The grey values of three channels that differ by rounding at most; None where a pixel is coloured.

    Args:
        block: (n, width, 3).
        lossy: whether the values come from JPEG.
    """
    red, green, blue = cv2.split(np.ascontiguousarray(block))
    if np.array_equal(red, green) and np.array_equal(green, blue):
        return green
    spread = max(cv2.absdiff(red, green).max(), cv2.absdiff(green, blue).max())
    return green if spread <= _tolerance(block.dtype, lossy) else None


def coloured_rows(raster: Raster, start: int, stop: int) -> NDArray[np.bool_]:
    """Which pixels of these rows are coloured, bool (n, width)."""
    block = raster.read(start, stop)
    if raster.palette is not None:
        return np.take((raster.palette != raster.palette[:, :1]).any(axis=1), block)
    if block.ndim == 2:
        return np.zeros(block.shape, np.bool_)
    red, green, blue = cv2.split(np.ascontiguousarray(block))
    return np.maximum(cv2.absdiff(red, green), cv2.absdiff(green, blue)) > _tolerance(block.dtype, raster.lossy)


def find_coloured(raster: Raster, crop: Crop) -> Coloured | None:
    """The coloured pixels of what a crop leaves; None where all are grey. The image is read once, in stripes."""
    top, bottom = crop.top_px, raster.height - crop.bottom_px
    left, right = crop.left_px, raster.width - crop.right_px
    step = max(1, _BLOCK_PX // raster.width)
    count = 0
    rows: list[int] = []
    columns: list[int] = []
    for start in range(top, bottom, step):
        coloured = coloured_rows(raster, start, min(start + step, bottom))[:, left:right]
        if number := int(np.count_nonzero(coloured)):
            count += number
            rows += (start + np.flatnonzero(coloured.any(axis=1))[[0, -1]]).tolist()
            columns += (left + np.flatnonzero(coloured.any(axis=0))[[0, -1]]).tolist()
    if not count:
        return None
    return Coloured(count, (bottom - top) * (right - left), (min(rows), max(rows)), (min(columns), max(columns)))


def _tolerance(dtype: np.dtype[Any], lossy: bool) -> float:
    steps = _JPEG_TOLERANCE if lossy else _TOLERANCE
    return 0.0 if dtype.kind == "f" else steps * np.iinfo(dtype).max / 255
