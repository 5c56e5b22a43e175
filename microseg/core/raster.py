"""Files to pixels: one `Raster` per image file, read whole or, for TIFF, row by row in bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


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


def open_raster(path: Path) -> Raster:
    """Open an image by its content, whatever its suffix. Raises FieldError that names the file and the reason."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise FieldError(f"{path}: cannot be opened ({error.strerror or error}).") from error
    if not magic:
        raise FieldError(f"{path}: is empty (0 bytes). Remedy: copy or save the image again.")
    # Here rather than above: a station that reads TIFF alone starts without the other decoders.
    if magic in _TIFF_MAGIC:
        from microseg.core.tiff import open_tiff

        return open_tiff(path)
    from microseg.core.bitmap import open_bitmap

    return open_bitmap(path)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width from the file's header alone. Raises FieldError."""
    try:
        with path.open("rb") as stream:
            is_tiff = stream.read(4) in _TIFF_MAGIC
        if is_tiff:
            from microseg.core.tiff import tiff_size

            return tiff_size(path)
        from microseg.core.bitmap import bitmap_size

        return bitmap_size(path)
    except Exception:  # whatever a damaged header raises: opening it in full says it in our words
        with open_raster(path) as raster:
            return raster.height, raster.width
