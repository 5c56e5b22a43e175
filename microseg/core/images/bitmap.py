"""PNG, BMP, JPEG, JPEG 2000 and WebP, decoded as a whole: their decoders cannot start in the middle."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import FieldError
from microseg.core.images.exclusion import Exclusion
from microseg.core.images.orientation import StoredGrid, known_orientation
from microseg.core.images.raster import Raster
from microseg.core.material.transparency import transparent_pixels
from microseg.core.notices import Notice

_FORMATS = ("PNG", "BMP", "DIB", "JPEG", "JPEG2000", "WEBP")
# Pillow tells size and mode; these keep 16 bits of colour and of grey.
_CODECS: dict[str, Callable[[bytes], Any]] = {"JPEG2000": imagecodecs.jpeg2k_decode, "WEBP": imagecodecs.webp_decode}
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
            decoded = _decode(path, image)
            orientation, one_bit = _orientation(path, image), image.mode == "1"
            lossy = image.format in ("JPEG", "MPO")  # MPO: a JPEG with further pictures behind it
            is_bmp = image.format in ("BMP", "DIB")
    except FieldError:
        raise
    except PIL.UnidentifiedImageError as error:
        raise FieldError(
            f"{path}: is no image that can be read (TIFF, PNG, BMP, JPEG, JPEG 2000, WebP). Remedy: save it as TIFF."
        ) from error
    except Image.DecompressionBombError as error:
        raise FieldError(
            f"{path}: {error}. Remedy: save an image of this size as tiled or stripped TIFF, which is read in parts."
        ) from error
    except Exception as error:  # a damaged file makes decoders raise anything
        reason = str(error) or type(error).__name__
        raise FieldError(f"{path}: cannot be decoded ({reason}). Remedy: copy or save the image again.") from error
    pixels = decoded.pixels
    height, width = pixels.shape[:2]
    exclusions, notices = _transparency(decoded.alpha, is_bmp)
    return Raster(
        path,
        height,
        width,
        pixels.dtype,
        lambda start, stop: pixels[start:stop],
        palette=decoded.palette,
        one_bit=one_bit,
        lossy=lossy,
        orientation=orientation,
        exclusions=exclusions,
        notices=notices,
    )


def _transparency(alpha: NDArray[Any] | None, is_bmp: bool) -> tuple[tuple[Exclusion, ...], tuple[Notice, ...]]:
    """What is transparent, and notices, of an alpha channel (h, w)."""
    if alpha is None:
        return (), ()
    if is_bmp and not alpha.any():  # many programs leave the fourth byte of a pixel unused
        return (), (Notice("file", "alpha channel dropped: it is 0 everywhere"),)
    return transparent_pixels(alpha), (Notice("file", "alpha channel dropped"),)


@dataclass(frozen=True)
class _Decoded:
    """A decoded bitmap.

    Attributes:
        pixels: (h, w) or (h, w, 3).
        palette: (256, 3) uint8 where the pixels are indices into it, else None.
        alpha: opacity (h, w), or None.
    """

    pixels: NDArray[Any]
    palette: NDArray[np.uint8] | None = None
    alpha: NDArray[Any] | None = None

    @classmethod
    def of(cls, pixels: NDArray[Any]) -> _Decoded:
        """Pixels (h, w) or (h, w, C); the last of 2 or 4 channels is alpha."""
        if pixels.ndim == 2:
            return cls(pixels)
        match pixels.shape[2]:
            case 2:
                return cls(pixels[..., 0], alpha=pixels[..., 1])
            case 4:
                return cls(pixels[..., :3], alpha=pixels[..., 3])
            case _:
                return cls(pixels)


def _decode(path: Path, image: Image.Image) -> _Decoded:
    """The content of an opened bitmap."""
    if image.format == "PNG" and image.mode in ("RGB", "RGBA", "LA") and _png_bit_depth(path) == 16:
        image.load()  # Pillow keeps 8 of 16 bits here, but it is the one that notices truncation
        return _without_key(_Decoded.of(np.asarray(imagecodecs.png_decode(path.read_bytes()))), image)
    if image.format in _CODECS:
        return _Decoded.of(np.asarray(_CODECS[image.format](path.read_bytes())))
    match image.mode:
        case "P":
            colors = np.asarray(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            palette = np.zeros((256, 3), dtype=np.uint8)
            palette[: len(colors)] = colors
            pixels = np.asarray(image)
            return _Decoded(pixels, palette, _palette_alpha(pixels, image))
        case "1":
            return _without_key(_Decoded(np.asarray(image.convert("L"))), image)
        case "L" | "RGB" | "F" | "LA" | "RGBA":
            return _without_key(_Decoded.of(np.asarray(image)), image)
        case "I":
            wide = np.asarray(image)
            if wide.min() < 0 or wide.max() > np.iinfo(np.uint16).max:
                raise FieldError(f"{path}: holds values beyond 16 bit. Remedy: save it with 8 or 16 bit.")
            return _without_key(_Decoded(wide.astype(np.uint16)), image)
        case mode if mode.startswith("I;16"):
            return _without_key(_Decoded(np.asarray(image).astype(np.uint16)), image)
        case _:
            return _Decoded(np.asarray(image.convert("RGB")))


def _palette_alpha(pixels: NDArray[np.uint8], image: Image.Image) -> NDArray[np.uint8] | None:
    """Opacity by the palette's (PNG's tRNS chunk, one byte for each entry); None without one."""
    stated = image.info.get("transparency")
    if stated is None:
        return None
    table = np.full(256, 255, np.uint8)
    if isinstance(stated, bytes):
        table[: len(stated)] = np.frombuffer(stated, np.uint8)[:256]
    else:
        table[stated] = 0
    return table[pixels]


def _without_key(decoded: _Decoded, image: Image.Image) -> _Decoded:
    """Adds the opacity of a PNG whose tRNS chunk names one grey value or colour as transparent."""
    key = image.info.get("transparency")
    if decoded.alpha is not None or not isinstance(key, int | tuple):
        return decoded
    is_key = decoded.pixels == np.asarray(key)
    is_key = is_key.all(axis=2) if is_key.ndim == 3 else is_key
    return replace(decoded, alpha=np.where(is_key, np.uint8(0), np.uint8(255)))


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
