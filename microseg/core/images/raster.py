"""Pixels of one image file: a whole bitmap, or a TIFF read row by row in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from microseg.core.images.exclusion import Exclusion
from microseg.core.images.scale.statement import FileScale
from microseg.core.notices import Notice

if TYPE_CHECKING:
    from microseg.core.material.stated_bar import StatedBar


def shades(bits: int) -> NDArray[np.uint8]:
    """Grey values of 8 bits for the values of so few bits, as viewers show them: the largest one is 255.

    Args:
        bits: 1 to 8.

    Returns:
        uint8 (2 ** bits,).
    """
    return np.asarray(np.rint(np.arange(2**bits) * (255 / (2**bits - 1))), np.uint8)


def _nothing() -> None:
    """Close a raster that holds no file."""


@dataclass
class Raster:
    """Pixels of one file as stored. One thread at a time may use it.

    Attributes:
        path: the file.
        height, width: size in pixels.
        dtype: data type of the values.
        read: `read(start, stop)` gives rows: (n, width) of indices or grey values, or (n, width, 3) of colours.
        palette: (entries, 3) uint8 where the values are indices into it, else None.
        white_is_zero: whether 0 is white (TIFF's MinIsWhite).
        one_bit: whether the file stores one bit a pixel; `read` gives 0 and 255.
        bits: bits of a grey value or index where the file has fewer than its type, else None; `read` does not scale them.
        lossy: whether the values come from JPEG, whose equal channels differ by rounding.
        orientation: how viewers turn the stored pixels, 1 to 8 (EXIF and TIFF tag 274); `read` does not turn them.
        scale: what the file states about the size of a pixel.
        exclusions: pixels that the file marks as no part of the picture.
        data_bar: the data bar at the bottom that the file states, or None.
        notices: what was dropped, for the user.
        close: closes the file.
    """

    path: Path
    height: int
    width: int
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]
    palette: NDArray[np.uint8] | None = None
    white_is_zero: bool = False
    one_bit: bool = False
    bits: int | None = None
    lossy: bool = False
    orientation: int = 1
    scale: FileScale = field(default_factory=FileScale)
    exclusions: tuple[Exclusion, ...] = ()
    data_bar: StatedBar | None = None
    notices: tuple[Notice, ...] = ()
    close: Callable[[], None] = field(default=_nothing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
