"""Overlays: the phases' colours over the micrograph, as JPEG, and the same picture without them.

Large fields are reduced by area averaging. What is not measured is pale in an overlay and has no colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.images.exclusion import NOT_MEASURED

MAX_SIDE_PX = 2048
THUMBNAIL_SIDE_PX = 360
_OPACITY, _PALENESS = 0.4, 0.65
_QUALITY, _THUMBNAIL_QUALITY = 85, 72


class _Picture:
    """Collects rows from top to bottom into one picture of at most `MAX_SIDE_PX` a side."""

    def __init__(self, height: int, width: int, channels: tuple[int, ...] = ()) -> None:
        self._factor = max(1, math.ceil(max(height, width) / MAX_SIDE_PX))
        shape = (math.ceil(height / self._factor), math.ceil(width / self._factor), *channels)
        self._picture = np.zeros(shape, np.uint8)
        self._filled = 0
        self._waiting: list[NDArray[np.uint8]] = []

    def finish(self) -> NDArray[np.uint8]:
        """The picture, uint8."""
        if self._waiting and len(rest := np.concatenate(self._waiting)):
            missing = [(0, self._factor - len(rest)), *((0, 0) for _ in rest.shape[1:])]
            self._put(self._reduced(np.pad(rest, missing, mode="edge")))
        return self._picture

    def _append(self, rows: NDArray[np.uint8]) -> None:
        if self._factor == 1:
            self._put(rows)
            return
        self._waiting.append(rows)
        number = sum(len(block) for block in self._waiting)
        if whole := number // self._factor * self._factor:
            block = np.concatenate(self._waiting)
            self._waiting = [block[whole:].copy()]
            self._put(self._reduced(block[:whole]))

    def _put(self, rows: NDArray[np.uint8]) -> None:
        self._picture[self._filled : self._filled + len(rows)] = rows
        self._filled += len(rows)

    def _reduced(self, block: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Whole rows of the picture, the mean of factor x factor pixels each."""
        height, width = len(block) // self._factor, self._picture.shape[1]
        missing = width * self._factor - block.shape[1]
        if missing:
            block = np.asarray(cv2.copyMakeBorder(block, 0, 0, 0, missing, cv2.BORDER_REPLICATE), np.uint8)
        return np.asarray(cv2.resize(block, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


class Overlay(_Picture):
    """Collects a field's rows from top to bottom into its overlay, uint8 (h, w, 3) BGR."""

    def __init__(self, height: int, width: int, colors: Sequence[str]) -> None:
        """Args:
        height: rows of the field.
        width: columns of the field.
        colors: colour of each phase, #rrggbb.
        """
        super().__init__(height, width, (3,))
        self._table = _color_table(colors)

    def add(self, grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> None:
        """Append rows: grey values and phase indices (NOT_MEASURED: none), both uint8 (n, width)."""
        codes = labels.astype(np.uint16)
        codes <<= 8
        codes |= grey
        # Every code is an index of the table: nothing has to be checked.
        pixels = np.take(self._table, codes, mode="clip").view(np.uint8).reshape(*labels.shape, 4)
        self._append(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_BGRA2BGR), np.uint8))


class Plain(_Picture):
    """Collects a field's rows from top to bottom into the picture that its overlay lies over, uint8 (h, w)."""

    def __init__(self, height: int, width: int) -> None:
        """Args:
        height: rows of the field.
        width: columns of the field.
        """
        super().__init__(height, width)

    def add(self, grey: NDArray[np.uint8]) -> None:
        """Append rows of grey values, uint8 (n, width)."""
        self._append(grey)


def jpeg(picture: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 (h, w, 3) BGR or (h, w), as JPEG."""
    return _encoded(picture, _QUALITY)


def thumbnail(picture: NDArray[np.uint8], side_px: int = THUMBNAIL_SIDE_PX) -> bytes:
    """A picture, uint8 (h, w, 3) BGR, as a small JPEG for a page, of at most `side_px` a side."""
    # OpenCV averages halves many times faster than other fractions. A factor above a half needs no averaging.
    while max(picture.shape[:2]) >= 2 * side_px and min(picture.shape[:2]) > 1:
        height, width = (side // 2 for side in picture.shape[:2])
        even = picture[: 2 * height, : 2 * width]
        picture = np.asarray(cv2.resize(even, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
    height, width = picture.shape[:2]
    factor = side_px / max(height, width)
    if factor < 1:
        size = (max(1, round(width * factor)), max(1, round(height * factor)))
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR), np.uint8)
    return _encoded(picture, _THUMBNAIL_QUALITY)


def _encoded(picture: NDArray[np.uint8], quality: int) -> bytes:
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data.tobytes()


def _color_table(colors: Sequence[str]) -> NDArray[np.uint32]:
    """One BGRA pixel for each mask value and grey value, at the index mask value * 256 + grey."""
    rgb = np.array([[int(color[i : i + 2], 16) for i in (5, 3, 1)] for color in colors], np.float32)
    grey = np.arange(256, dtype=np.float32)[None, :, None]
    table = np.full((256, 256, 4), 255, np.uint8)
    table[: len(colors), :, :3] = np.rint((1 - _OPACITY) * grey + _OPACITY * rgb[:, None, :])
    table[NOT_MEASURED, :, :3] = np.rint((1 - _PALENESS) * grey[0] + _PALENESS * 255)
    return table.reshape(-1, 4).view(np.uint32).ravel()
