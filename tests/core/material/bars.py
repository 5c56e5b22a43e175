"""Data bars as microscopes draw them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray


def _text(bar: NDArray[np.uint8], text: str, place: tuple[int, int], size: float, value: int) -> None:
    cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, size, value, 1, cv2.LINE_AA)


def line_of_text(width: int, background: int = 0, text: int = 255, rows: int = 48) -> NDArray[np.uint8]:
    """One line of text and a scale bar."""
    bar = np.full((rows, width), background, np.uint8)
    _text(bar, "HV 10.0 kV | mag 5 000 x | WD 4.1 mm", (8, rows // 2 + 6), 0.5, text)
    cv2.line(bar, (width - 80, rows - 12), (width - 20, rows - 12), text, 2)
    return bar


def framed_table(width: int, background: int = 0, text: int = 255) -> NDArray[np.uint8]:
    """Two lines of text in a table with a frame."""
    bar = np.full((60, width), background, np.uint8)
    bar[0] = bar[30] = bar[-1] = text
    for column in range(0, width, width // 5):
        bar[:, column] = text
    for row in (20, 50):
        for column in range(4):
            _text(bar, ("10 kV", "5000 x", "4.1 mm", "ETD")[column], (5 + column * width // 5, row), 0.4, text)
    return bar


def uniform(width: int, value: int) -> NDArray[np.uint8]:
    """A band of one value."""
    return np.full((30, width), value, np.uint8)
