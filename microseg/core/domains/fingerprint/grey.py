"""Noise and sharpness of a micrograph, without labels."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

# Standard deviations of the first blur, in px: the first one that leaves edges clear of the noise. The second blur is twice as
# wide.
_BLURS = (1.0, 1.5, 2.0, 3.0)
_NOISE_FREE, _STRONGEST, _FEWEST_EDGES = 10.0, 98, 20
# From 10 to 90 % of an edge that a Gaussian of standard deviation 1 blurs.
_WIDTH_OF_EDGE = 2.563
_SIDE_PX = 640


def centre_of(picture: NDArray[np.uint8], side_px: int = _SIDE_PX) -> NDArray[np.uint8]:
    """The middle of a field, at most `side_px` high and wide: enough for statistics of grey values."""
    height, width = picture.shape
    top, left = max(0, (height - side_px) // 2), max(0, (width - side_px) // 2)
    return picture[top : top + side_px, left : left + side_px]


def noise_of(image: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise in grey values.

    The difference of two Laplacians leaves little of the structure (Immerkaer, Computer Vision and Image Understanding 64,
    300, 1996). The median of its size takes the place of the mean, so that edges do not count as noise.

    Args:
        image: uint8 (h, w), at least 3 x 3.
    """
    mask = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
    response = cv2.filter2D(image.astype(np.float32), cv2.CV_32F, mask)[1:-1, 1:-1]
    # The response to noise of standard deviation 1 has one of 6; 0.6745 of a normal deviate's size is below and above.
    return float(_median(np.abs(response)) / (6 * 0.6745))


def _median(values: NDArray[np.float32]) -> float:
    """Median of whole numbers, refined within its step: 8-bit pictures would give a few values only."""
    counts = np.bincount(values.astype(np.int64).ravel())
    below = np.cumsum(counts) / values.size
    place = int(np.searchsorted(below, 0.5))
    before = below[place - 1] if place else 0.0
    if place == 0:
        return 0.0
    return float(place - 0.5 + (0.5 - before) / (below[place] - before))


def focus_of(image: NDArray[np.uint8], noise: float) -> float | None:
    """Width of the sharpest edges from 10 to 90 % of their height, in px.

    Two blurs of known width weaken the gradient of a sharp edge more than that of a blurred one; their ratio at an edge gives
    its own width (Zhuo & Sim, Pattern Recognition 44, 1852, 2011).

    Args:
        image: uint8 (h, w).
        noise: standard deviation of its noise.

    Returns:
        The median over the edges with the strongest gradients, or None where too few stand out of the noise.
    """
    grey = image.astype(np.float32)
    for sigma in _BLURS:
        fine = _gradient(grey, sigma)
        # A Gaussian derivative of standard deviation s passes white noise with 1 / (s**2 * sqrt(8 pi)) of its size.
        threshold = _NOISE_FREE * max(noise, 0.3) / (sigma**2 * math.sqrt(8 * math.pi))
        strongest = float(np.percentile(fine[::2, ::2], _STRONGEST))
        if strongest >= threshold:
            return _width(fine, _gradient(grey, 2 * sigma), strongest, sigma)
    return None


def _width(fine: NDArray[np.float32], coarse: NDArray[np.float32], threshold: float, sigma: float) -> float | None:
    """Width of the edges whose gradient after a blur of `sigma` reaches the threshold."""
    edges = (fine >= threshold) & (fine >= cv2.dilate(fine, np.ones((3, 3), np.uint8)))
    ratio = (fine[edges] / np.maximum(coarse[edges], 1e-3)) ** 2
    ratio = ratio[ratio > 1.01]
    if ratio.size < _FEWEST_EDGES:
        return None
    variance = sigma**2 * (4 - ratio) / (ratio - 1)
    return float(_WIDTH_OF_EDGE * math.sqrt(max(float(np.median(variance)), 0.0)))


def _gradient(grey: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    blurred = cv2.GaussianBlur(grey, (0, 0), sigma)
    along = [cv2.filter2D(blurred, cv2.CV_32F, kernel) for kernel in _DIFFERENCES]
    return np.hypot(*along, dtype=np.float32)


_DIFFERENCES = (np.array([[-0.5, 0, 0.5]], np.float32), np.array([[-0.5], [0], [0.5]], np.float32))
