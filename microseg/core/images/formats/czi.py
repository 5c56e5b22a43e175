"""Zeiss CZI through czifile: one plane, of one tile or of a mosaic (Zeiss, "ZEISS CZI file format", version 1.2.2)."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import czifile
import imagecodecs
import numpy as np
from defusedxml.ElementTree import fromstring
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.exclusion import Exclusion
from microseg.core.images.raster import Raster
from microseg.core.images.scale.statement import FileScale, Statement
from microseg.core.notices import Notice

# A mosaic of whole slides does not fit into the memory of a station.
_MOST_BYTES = 2 << 30
_PLANE = "YX0"


def open_czi(path: Path) -> Raster:
    """Read a CZI file that holds one plane.

    Pixels of a mosaic that no tile covers are not measured.

    Args:
        path: the file.

    Raises:
        FieldError: the file is damaged, holds several planes or scenes, or is too large.
    """
    try:
        # A damaged file would stay open: czifile closes what it opens only after its start.
        with path.open("rb") as stream, czifile.CziFile(stream) as czi:
            pixels, covered = _plane(path, czi)
            scale = _scale(czi.metadata())
    except FieldError:
        raise
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error) or type(error).__name__
        raise FieldError(f"{path}: cannot be decoded ({reason}). Remedy: save it as TIFF with ZEN.") from error
    empty = int(covered.size - np.count_nonzero(covered))
    told = (Notice("not measured", f"no tile of the mosaic covers {empty / covered.size:.2%} of the pixels"),)
    return Raster(
        path,
        pixels.shape[0],
        pixels.shape[1],
        pixels.dtype,
        lambda start, stop: pixels[start:stop],
        scale=scale,
        exclusions=(Exclusion.of("outside of the mosaic", ~covered),) if empty else (),
        notices=told if empty else (),
    )


def _plane(path: Path, czi: Any) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Pixels (h, w) or (h, w, 3) of the only plane, and which of them a tile covers, bool (h, w)."""
    sizes = dict(zip(czi.axes, czi.shape, strict=True))
    several = {axis: size for axis, size in sizes.items() if axis not in _PLANE and size > 1}
    if several:
        listed = ", ".join(f"{axis}: {size}" for axis, size in several.items())
        raise FieldError(
            f"{path}: holds several planes ({listed}; S: scenes, C: channels, Z: heights, T: times). Remedy: save the one to "
            "be measured as a file of its own."
        )
    height, width, samples = sizes["Y"], sizes["X"], sizes["0"]
    if samples not in (1, 3):
        raise FieldError(f"{path}: {samples} values a pixel. Remedy: save it as grey.")
    if math.prod((height, width, samples)) * np.dtype(czi.dtype).itemsize > _MOST_BYTES:
        raise FieldError(
            f"{path}: {width} x {height} px are too many to decode at once. Remedy: save it as tiled TIFF."
        )
    pixels = np.zeros((height, width, samples), czi.dtype)
    covered = np.zeros((height, width), np.bool_)
    y, x = czi.axes.index("Y"), czi.axes.index("X")
    for entry in czi.filtered_subblock_directory:
        if entry.stored_shape != entry.shape:
            continue  # a level of the pyramid, reduced
        tile = _tile(path, entry)
        top, left = entry.start[y] - czi.start[y], entry.start[x] - czi.start[x]
        pixels[top : top + tile.shape[0], left : left + tile.shape[1]] = tile
        covered[top : top + tile.shape[0], left : left + tile.shape[1]] = True
    # Colours are stored as blue, green, red.
    return (pixels[..., 0] if samples == 1 else pixels[..., ::-1]), covered


def _tile(path: Path, entry: Any) -> NDArray[Any]:
    """The pixels (h, w, samples) of one sub-block."""
    shape = tuple(entry.shape[entry.axes.index(axis)] for axis in _PLANE)
    data = entry.data_segment().data(raw=True)
    dtype = np.dtype(entry.dtype)
    match entry.compression:  # numbers of the specification
        case 0:
            values = np.frombuffer(data, dtype)
        case 1:
            values = imagecodecs.jpeg8_decode(data)
        case 4:
            values = imagecodecs.jpegxr_decode(data)
        case 5:
            values = np.frombuffer(imagecodecs.zstd_decode(data), dtype)
        case 6:
            values = _zstd_1(bytes(data), dtype)
        case other:
            raise FieldError(f"{path}: compression {other} is not read. Remedy: save it as TIFF with ZEN.")
    return np.asarray(values).reshape(shape)


def _zstd_1(data: bytes, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Values of the compression zstd1: a header of 1 or 3 bytes, which tells whether low and high bytes lie apart."""
    size = data[0]
    apart = size == 3 and data[1] == 1 and bool(data[2] & 1)
    unpacked = imagecodecs.zstd_decode(data[size:])
    if not apart:
        return np.frombuffer(unpacked, dtype)
    low, high = np.frombuffer(unpacked, np.uint8).reshape(2, -1).astype(np.uint16)
    return (low | high << 8).astype(dtype)


def _scale(metadata: str | None) -> FileScale:
    """The element Scaling: metres a pixel; 0 where the microscope knew none."""
    found: dict[str, float] = {}
    if metadata:
        for element in fromstring(metadata, forbid_dtd=True).iter("Distance"):
            value = element.findtext("Value")
            if value and (size := float(value)) > 0:
                found.setdefault(element.get("Id", ""), size * 1e6)
    if "X" not in found:
        return FileScale()
    return FileScale((Statement(found["X"], "CZI (Scaling)", height_um=found.get("Y")),))
