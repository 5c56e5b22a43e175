"""Stored and shown: how viewers turn a picture by EXIF's and TIFF's Orientation (tag 274)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

# From stored to shown. TIFF 6.0, section 8, names the place of the first row and column; this is what it takes to show it.
_SHOWN: dict[int, Callable[[NDArray[Any]], NDArray[Any]]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}
_UNDOES = {6: 8, 8: 6}


@dataclass(frozen=True)
class StoredGrid:
    """The grid of an image as its file stores it.

    Attributes:
        height, width: size in pixels.
        orientation: how viewers turn it, 1 to 8.
    """

    height: int
    width: int
    orientation: int = 1

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width as stored."""
        return self.height, self.width

    @property
    def shown_shape(self) -> tuple[int, int]:
        """Height and width as viewers show it."""
        return (self.height, self.width) if self.orientation <= 4 else (self.width, self.height)


def known_orientation(value: object) -> int:
    """An orientation as a file states it, 1 to 8; 1 (as stored) for anything else, as viewers do.

    Args:
        value: the value of tag 274, or None.
    """
    return int(value) if isinstance(value, int) and value in _SHOWN else 1


def shown(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Stored pixels as viewers show them.

    Args:
        pixels: (h, w) or (h, w, channels) as stored.
        orientation: 1 to 8.

    Returns:
        A view with rows and columns turned; (w, h) for 5 to 8.
    """
    return _SHOWN[orientation](pixels)


def as_stored(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The inverse of `shown`."""
    return _SHOWN[_UNDOES.get(orientation, orientation)](pixels)
