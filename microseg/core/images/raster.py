"""Pixels of one image file, read whole or, for TIFF, row by row in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray


def _nothing() -> None:
    """Close a raster that holds no file."""


@dataclass
class Raster:
    """Pixels of one file as stored, alpha dropped.

    read(start, stop): rows as (n, width) of indices or grey values, or (n, width, 3) of colours; native dtype.
    palette: (entries, 3) uint8 where the values are indices into it. `white_is_zero` as TIFF's MinIsWhite.
    lossy: decoded from JPEG, so that equal channels may differ by rounding. Not for use by several threads at once.
    """

    path: Path
    height: int
    width: int
    dtype: np.dtype[Any]
    read: Callable[[int, int], NDArray[Any]]
    palette: NDArray[np.uint8] | None = None
    white_is_zero: bool = False
    lossy: bool = False
    pixel_size_um: float | None = None
    notices: tuple[str, ...] = ()
    close: Callable[[], None] = field(default=_nothing)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
