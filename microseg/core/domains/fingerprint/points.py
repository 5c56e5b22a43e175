"""Salient points of fields, by which overlaps are found: two crops of one micrograph share points at one shift."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

# Points of a field, at most.
MOST_POINTS = 250
# Half the side of the surroundings that describe a point, in px of the halved picture, and the step between its samples.
_REACH, _STEP = 7, 2
_SAMPLES = (2 * _REACH // _STEP + 1) ** 2
_SCALE = 127 * 1.5


@dataclass(frozen=True)
class Points:
    """Salient points, the clearest first.

    Attributes:
        places: row and column in px, int32 (N, 2).
        surroundings: what is around each, int8 (N, 64), of mean 0 and one length.
    """

    places: NDArray[np.int32]
    surroundings: NDArray[np.int8]

    def first(self, number: int) -> Points:
        """The clearest points."""
        return Points(self.places[:number], self.surroundings[:number])

    @property
    def directions(self) -> NDArray[np.float32]:
        """The surroundings as vectors of length 1: their products are correlations."""
        values = self.surroundings.astype(np.float32)
        return np.asarray(values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-3), np.float32)


def points_of(image: NDArray[np.uint8]) -> Points:
    """The salient points of a field: extrema of a difference of Gaussians (Lowe, Int. J. Computer Vision 60, 91, 2004).

    Args:
        image: uint8 (h, w).
    """
    half = cv2.resize(image, (max(1, image.shape[1] // 2), max(1, image.shape[0] // 2)), interpolation=cv2.INTER_AREA)
    grey = half.astype(np.float32)
    fine, coarse = cv2.GaussianBlur(grey, (0, 0), 1), cv2.GaussianBlur(grey, (0, 0), 2)
    size = np.abs(fine - coarse)
    is_peak = (size >= cv2.dilate(size, np.ones((5, 5), np.uint8))) & (size > 0.5)
    is_peak[:_REACH] = is_peak[-_REACH:] = False
    is_peak[:, :_REACH] = is_peak[:, -_REACH:] = False
    places = np.argwhere(is_peak)
    # A large field holds as many points for each of its parts as a small one, within limits.
    number = int(np.clip(MOST_POINTS * image.size / (1 << 20), MOST_POINTS, 4 * MOST_POINTS))
    order = np.argsort(-size[is_peak], kind="stable")[:number]
    places = places[order]
    around = np.arange(-_REACH, _REACH + 1, _STEP)
    rows, columns = places[:, 0, None, None] + around[None, :, None], places[:, 1, None, None] + around[None, None, :]
    values = fine[rows, columns].reshape(len(places), _SAMPLES)
    values = values - values.mean(1, keepdims=True)
    values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-3)
    scale = np.array([image.shape[0] / half.shape[0], image.shape[1] / half.shape[1]])
    return Points(
        np.rint(places * scale).astype(np.int32), np.rint(np.clip(values * _SCALE, -127, 127)).astype(np.int8)
    )
