"""Files to pixels: one `Raster` per image file, read whole or, for TIFF, row by row in bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import imagecodecs
import numpy as np
import PIL
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import FieldError

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITMAP_FORMATS = ("PNG", "BMP", "DIB", "JPEG")

# Pillow warns at half of the size that it refuses; refusing is enough.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


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
    if magic in _TIFF_MAGIC:
        from microseg.core.tiff import open_tiff

        return open_tiff(path)
    return _open_bitmap(path)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width from the file's header alone. Raises FieldError."""
    try:
        with path.open("rb") as stream:
            is_tiff = stream.read(4) in _TIFF_MAGIC
        if is_tiff:
            with tifffile.TiffFile(path) as tif:
                return tif.pages.first.imagelength, tif.pages.first.imagewidth
        with Image.open(path, formats=_BITMAP_FORMATS) as image:
            return image.height, image.width
    except Exception:  # whatever a damaged header raises: opening it in full says it in our words
        with open_raster(path) as raster:
            return raster.height, raster.width


def _open_bitmap(path: Path) -> Raster:
    """Decode PNG, BMP or JPEG whole; their decoders cannot start in the middle."""
    try:
        with Image.open(path, formats=_BITMAP_FORMATS) as image:
            pixels, palette, notices = _decode(path, image)
            lossy = image.format in ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it
    except FieldError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise FieldError(
            f"{path}: is no image that can be read (TIFF, PNG, BMP, JPEG). Remedy: save it as TIFF."
        ) from error
    except Image.DecompressionBombError as error:
        raise FieldError(
            f"{path}: {error}. Remedy: save an image of this size as tiled or stripped TIFF, which is read in parts."
        ) from error
    except Exception as error:  # a damaged file makes decoders raise anything
        raise FieldError(f"{path}: is damaged or truncated ({error}). Remedy: copy or save the image again.") from error
    height, width = pixels.shape[:2]
    return Raster(
        path,
        height,
        width,
        pixels.dtype,
        lambda start, stop: pixels[start:stop],
        palette=palette,
        lossy=lossy,
        notices=notices,
    )


def _decode(path: Path, image: Image.Image) -> tuple[NDArray[Any], NDArray[np.uint8] | None, tuple[str, ...]]:
    """Pixels (h, w) or (h, w, 3), palette or None, and notices of an opened bitmap."""
    alpha = ("alpha channel dropped",)
    if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and _png_bit_depth(path) == 16:
        image.load()  # Pillow keeps 8 of 16 bits here, but it is the one that notices truncation
        pixels = np.asarray(imagecodecs.png_decode(path.read_bytes()))
        channels = 1 if pixels.ndim == 2 else pixels.shape[2]
        grey = pixels[..., 0] if channels == 2 else pixels
        return (grey, None, alpha) if channels == 2 else (grey[..., :3], None, alpha if channels == 4 else ())
    match image.mode:
        case "P":
            colors = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            palette = np.zeros((256, 3), dtype=np.uint8)
            palette[: len(colors)] = colors
            return np.asarray(image), palette, alpha if "transparency" in image.info else ()
        case "1":
            return np.asarray(image.convert("L")), None, ()
        case "LA":
            return np.asarray(image)[..., 0], None, alpha
        case "RGBA":
            return np.asarray(image)[..., :3], None, alpha
        case "I":
            wide = np.asarray(image)
            if wide.min() < 0 or wide.max() > np.iinfo(np.uint16).max:
                raise FieldError(f"{path}: holds values beyond 16 bit. Remedy: save it with 8 or 16 bit.")
            return wide.astype(np.uint16), None, ()
        case "L" | "RGB" | "F":
            return np.asarray(image), None, ()
        case mode if mode.startswith("I;16"):
            return np.asarray(image).astype(np.uint16), None, ()
        case _:
            return np.asarray(image.convert("RGB")), None, ()


def _png_bit_depth(path: Path) -> int:
    """Bits per sample from the IHDR chunk, which is always the first."""
    with path.open("rb") as stream:
        return stream.read(25)[24]
