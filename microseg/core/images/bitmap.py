"""PNG, BMP and JPEG, decoded as a whole: their decoders cannot start in the middle."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import FieldError
from microseg.core.images.orientation import StoredGrid, known_orientation
from microseg.core.images.raster import Raster
from microseg.core.notices import Notice

_FORMATS = ("PNG", "BMP", "DIB", "JPEG")
_MAX_EXIF_BYTES = 1 << 20


def bitmap_grid(path: Path) -> StoredGrid:
    """Size and orientation from the header. Raises what Pillow raises for a damaged file."""
    with Image.open(path, formats=_FORMATS) as image:
        return StoredGrid(image.height, image.width, _orientation(path, image))


def open_bitmap(path: Path) -> Raster:
    """Decode a bitmap.

    Args:
        path: the file.

    Raises:
        FieldError: the file is damaged, cut off, too large to decode at once, or not supported.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            pixels, palette, notices = _decode(path, image)
            orientation, one_bit = _orientation(path, image), image.mode == "1"
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
        one_bit=one_bit,
        lossy=lossy,
        orientation=orientation,
        notices=notices,
    )


def _decode(path: Path, image: Image.Image) -> tuple[NDArray[Any], NDArray[np.uint8] | None, tuple[Notice, ...]]:
    """Pixels (h, w) or (h, w, 3), palette or None, and notices of an opened bitmap."""
    alpha = (Notice("file", "alpha channel dropped"),)
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


def _orientation(path: Path, image: Image.Image) -> int:
    """How viewers turn the picture, 1 to 8, by its EXIF data. Damaged data count as none."""
    with contextlib.suppress(Exception):
        exif = _png_exif(path) if image.format == "PNG" else image.getexif()
        return known_orientation(exif.get(0x0112))
    return 1


def _png_exif(path: Path) -> Image.Exif:
    """The eXIf chunk, wherever it stands: Pillow decodes the pixels to find one behind them."""
    exif = Image.Exif()
    with path.open("rb") as stream:
        stream.seek(8)
        while len(head := stream.read(8)) == 8 and head[4:] != b"IEND":
            length = int.from_bytes(head[:4], "big")
            if head[4:] == b"eXIf" and length <= _MAX_EXIF_BYTES:
                exif.load(stream.read(length))
                break
            stream.seek(length + 4, os.SEEK_CUR)
    return exif


def _png_bit_depth(path: Path) -> int:
    """Bits per sample from the IHDR chunk, which is always the first."""
    with path.open("rb") as stream:
        return stream.read(25)[24]
