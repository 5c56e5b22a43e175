"""Micrographs with exact labels, made in a moment."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def structure(seed: int, height: int = 256, width: int = 256, size_px: float = 5) -> NDArray[np.uint8]:
    """Labels of two phases in blobs."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), size_px) > 0).astype(np.uint8)


def picture_of(labels: NDArray[np.uint8], seed: int = 0, noise: float = 8) -> NDArray[np.uint8]:
    """A picture in which each phase has a grey value of its own, slightly blurred, with shading and noise."""
    height, width = labels.shape
    grey = cv2.GaussianBlur(70 + 50 * labels.astype(np.float32), (0, 0), 1.2)
    shading = 20 * np.linspace(0, 1, width, dtype=np.float32)[None]
    return as_bytes(grey + shading + noise * np.random.default_rng(seed).normal(size=(height, width)))


def as_bytes(grey: NDArray[Any]) -> NDArray[np.uint8]:
    return np.asarray(np.clip(np.rint(grey), 0, 255), np.uint8)


def compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    """The picture as JPEG gives it back."""
    found = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)
    return np.asarray(found, np.uint8)
