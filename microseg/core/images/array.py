"""NumPy arrays as micrographs, by the rules that hold for files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.micrograph import Micrograph
from microseg.core.images.raster import Raster
from microseg.core.material.transparency import transparent_pixels
from microseg.core.notices import Notice

_ACCEPTED = "uint8, uint16, int16 without negative values, float16, float32 or float64"
_SHAPES = (
    "(H, W) of grey values, (H, W, 1), (H, W, 3) with three equal channels, or (H, W, 2) and (H, W, 4) with alpha last"
)
_TYPES = ("uint8", "uint16", "int16", "float16", "float32", "float64")
_BY_CHANNELS = {1: slice(0, 1), 2: slice(0, 1), 3: slice(0, 3), 4: slice(0, 3)}


def array_micrograph(array: NDArray[Any], name: str) -> Micrograph:
    """An array as a micrograph. It is not copied: it must not change while it is measured.

    Args:
        array: grey values (H, W); or (H, W, C) with C = 1, 2 (grey, alpha), 3 (equal channels) or 4 (equal channels, alpha).
            dtype uint8, uint16, int16 without negative values, float16, float32 or float64, in any byte order. It need not
            be contiguous. Pixels whose alpha is below the largest value of the type (floats: 1) are not measured.
        name: what messages call it.

    Returns:
        The micrograph. It states no pixel size.

    Raises:
        FieldError: another dtype or shape, or a masked array.
    """
    if isinstance(array, np.ma.MaskedArray):
        raise FieldError(
            f"{name}: is a masked array, and masks of arrays are not read. Remedy: cut the masked part off with `crop`, or "
            "give array.data."
        )
    if array.dtype.name not in _TYPES:
        raise FieldError(
            f"{name}: holds {array.dtype.name}. Accepted: {_ACCEPTED}. Remedy: convert it, for instance array.astype('uint16')."
        )
    channels = 1 if array.ndim == 2 else array.shape[2] if array.ndim == 3 else 0
    if channels not in _BY_CHANNELS:
        raise FieldError(f"{name}: has the shape {array.shape}. Accepted: {_SHAPES}. Remedy: give one image at a time.")
    height, width = array.shape[:2]
    native = array.dtype.newbyteorder("=")

    def read(start: int, stop: int) -> NDArray[Any]:
        rows = array[start:stop]
        if rows.ndim == 3:
            rows = rows[..., _BY_CHANNELS[channels]]
            rows = rows[..., 0] if rows.shape[2] == 1 else rows
        return np.ascontiguousarray(rows, native)

    if channels not in (2, 4):
        return Micrograph(Raster(Path(name), height, width, native, read))
    return Micrograph(
        Raster(
            Path(name),
            height,
            width,
            native,
            read,
            exclusions=transparent_pixels(array[..., -1]),
            notices=(Notice("file", "alpha channel dropped"),),
        )
    )
