"""Graded corruptions of a field, as a microscope or a careless hand makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Corrupted:
    """A corrupted field.

    Attributes:
        image: grey values, uint8 (h, w).
        labels: phase indices, uint8 (h, w).
    """

    image: Picture
    labels: Picture


def corrupted(image: Picture, labels: Picture, kind: str, level: float, seed: int) -> Corrupted:
    """A field after a corruption.

    Args:
        image: grey values, uint8 (h, w).
        labels: phase indices, uint8 (h, w).
        kind: one of `KINDS`.
        level: its strength, as in `KINDS`.
        seed: of what is drawn.
    """
    if kind == "scale":
        return _rescaled(image, labels, level)
    return Corrupted(_CHANGES[kind](image, level, np.random.default_rng(seed)), labels)


def _rescaled(image: Picture, labels: Picture, factor: float) -> Corrupted:
    """The same structure in larger or smaller pixels. What shrinks is mirrored to its former size, so that areas compare."""
    height, width = image.shape
    size = (round(width * factor), round(height * factor))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(image, size, interpolation=how)
    moved = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    if factor < 1:
        missing = ((0, height - size[1]), (0, width - size[0]))
        resized, moved = np.pad(resized, missing, mode="reflect"), np.pad(moved, missing, mode="reflect")
    cut = slice(0, height), slice(0, width)
    return Corrupted(np.ascontiguousarray(resized[cut], np.uint8), np.ascontiguousarray(moved[cut], np.uint8))


def _defocus(image: Picture, sigma_px: float, _: np.random.Generator) -> Picture:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma_px), np.uint8)


def _noise(image: Picture, std: float, drawn: np.random.Generator) -> Picture:
    return _eight_bit(image + drawn.normal(0, std, image.shape))


def _contrast(image: Picture, factor: float, _: np.random.Generator) -> Picture:
    mean = float(image.mean())
    return _eight_bit(mean + (image.astype(np.float32) - mean) * factor)


def _brightness(image: Picture, offset: float, _: np.random.Generator) -> Picture:
    return _eight_bit(image.astype(np.float32) + offset)


def _gamma(image: Picture, exponent: float, _: np.random.Generator) -> Picture:
    table = 255 * (np.arange(256) / 255) ** exponent
    return np.asarray(_eight_bit(table)[image])


def _charging(image: Picture, height: float, drawn: np.random.Generator) -> Picture:
    """A gradient over the field and bright streaks along the scan, as charging leaves them."""
    rows, columns = image.shape
    across = np.linspace(-1, 1, columns)[None] * drawn.choice([-1, 1])
    down = np.linspace(-1, 1, rows)[:, None] * drawn.choice([-1, 1])
    streaks = cv2.GaussianBlur(drawn.normal(0, 1, (rows, 1)).astype(np.float32), (1, 25), sigmaX=1, sigmaY=3)
    streaks = 0.3 * streaks / max(float(np.abs(streaks).max()), 1e-6)
    return _eight_bit(image + height * (0.5 * across + 0.5 * down + streaks))


def _inversion(image: Picture, share: float, _: np.random.Generator) -> Picture:
    """The grey values, mixed with their inverse."""
    grey = image.astype(np.float32)
    return _eight_bit((1 - share) * grey + share * (255 - grey))


def _data_bar(image: Picture, share: float, drawn: np.random.Generator) -> Picture:
    """A black bar with white letters over the lowest rows."""
    found = image.copy()
    rows = max(2, round(share * image.shape[0]))
    bar = np.zeros((rows, image.shape[1]), np.uint8)
    size = rows / 40
    cv2.putText(
        bar, "10 um  HV 15 kV  WD 8.2", (4, round(0.75 * rows)), cv2.FONT_HERSHEY_SIMPLEX, max(size, 0.3), 255, 1
    )
    bar[rows // 2 : rows // 2 + max(1, rows // 12), round(0.7 * image.shape[1]) : round(0.9 * image.shape[1])] = 255
    found[-rows:] = bar
    return found


def _eight_bit(values: NDArray[Any]) -> Picture:
    return np.asarray(np.clip(np.rint(values), 0, 255), np.uint8)


_CHANGES: dict[str, Callable[[Picture, float, np.random.Generator], Picture]] = {
    "defocus": _defocus,
    "noise": _noise,
    "contrast": _contrast,
    "brightness": _brightness,
    "gamma": _gamma,
    "charging": _charging,
    "inversion": _inversion,
    "data bar": _data_bar,
}

KINDS: dict[str, tuple[float, ...]] = {
    "defocus": (0.6, 1.0, 1.6, 2.5),
    "noise": (6.0, 12.0, 22.0, 40.0),
    "contrast": (0.4, 0.6, 0.8, 1.3, 1.7),
    "brightness": (-60.0, -30.0, -15.0, 15.0, 30.0, 60.0),
    "gamma": (0.5, 0.7, 0.85, 1.2, 1.5, 2.0),
    "charging": (15.0, 30.0, 60.0, 90.0),
    "scale": (0.7, 0.8, 0.9, 1.1, 1.2, 1.4),
    "inversion": (0.1, 0.25, 0.7, 1.0),
    "data bar": (0.03, 0.08, 0.15, 0.25),
}
"""The corruptions and their levels, weak to strong: standard deviation in px and in grey values; factor; grey values; exponent;
height in grey values; factor of the size; share of the inverse; share of the rows."""
