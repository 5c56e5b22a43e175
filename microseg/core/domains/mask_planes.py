"""Masks of several pages or channels: one-hot, or refused."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from microseg.core.domains.phases import MAX_PHASES
from microseg.core.errors import FieldError, InputError
from microseg.core.images.orientation import known_orientation
from microseg.core.images.segments import packed_bits

_MAX_BYTES = 1 << 30
_REDUCED = 1  # NewSubfileType, bit 0: a smaller version of another page (TIFF 6.0)
_ALPHA = (1, 2)  # ExtraSamples


@dataclass(frozen=True)
class Planes:
    """Pages or channels of one file.

    Attributes:
        path: the file.
        what: "pages" or "channels".
        pixels: (n, h, w) as stored.
        orientation: how viewers turn them, 1 to 8.
    """

    path: Path
    what: str
    pixels: NDArray[Any]
    orientation: int


def read_planes(path: Path) -> Planes | None:
    """Pages or channels of a TIFF file that holds several.

    Args:
        path: the file.

    Returns:
        None for one grey page, a palette, colours (RGB), grey with alpha, and whatever is no TIFF. Pages marked as reduced do
        not count.

    Raises:
        FieldError: the pages differ in size, are too many or too large, or the file is damaged.
    """
    if not _is_tiff(path):
        return None
    try:
        with tifffile.TiffFile(path) as tif:
            return _planes(path, tif)
    except FieldError:
        raise
    except Exception as error:  # a damaged file makes decoders raise anything
        raise FieldError(f"{path}: cannot be decoded ({error}). Remedy: save the mask again.") from error


def _is_tiff(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return stream.read(2) in (b"II", b"MM")
    except OSError:  # opening it as an image says why
        return False


def _planes(path: Path, tif: tifffile.TiffFile) -> Planes | None:
    pages: list[Any] = [page for page in tif.pages if not int(page.subfiletype or 0) & _REDUCED]  # type: ignore[union-attr]
    first: Any = pages[0] if pages else tif.pages.first
    orientation = known_orientation(first.tags.valueof(274))
    if len(pages) == 1 and (tif.is_imagej or tif.is_shaped) and tif.series[0].size > first.size:
        # A stack whose pages follow one another without headers of their own.
        shape = (-1, first.imagelength, first.imagewidth)
        _refuse_too_much(path, tif.series[0].size // first.size, first)
        return Planes(path, "pages", _as_shown(tif.series[0].asarray(), first).reshape(shape), orientation)
    if len(pages) > 1:
        if len({page.shape for page in pages}) > 1 or len(first.shape) != 2:
            raise FieldError(
                f"{path}: holds {len(pages)} pages that are not one-hot (their sizes or channels differ). "
                "Remedy: save the page with the labels alone."
            )
        _refuse_too_much(path, len(pages), first)
        return Planes(path, "pages", _as_shown(np.stack([page.asarray() for page in pages]), first), orientation)
    is_colour = first.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR)
    is_alpha = first.samplesperpixel == 2 and bool(first.extrasamples) and int(first.extrasamples[0]) in _ALPHA
    if first.samplesperpixel < 2 or is_colour or is_alpha:
        return None
    _refuse_too_much(path, first.samplesperpixel, first)
    pixels = _as_shown(first.asarray().squeeze(), first)
    last = first.planarconfig != tifffile.PLANARCONFIG.SEPARATE
    return Planes(path, "channels", np.moveaxis(pixels, -1, 0) if last else pixels, orientation)


def _as_shown(pixels: NDArray[Any], page: Any) -> NDArray[Any]:
    """Pixels with white as the largest value, as viewers show them."""
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE or pixels.dtype.kind not in "bu":
        return pixels
    bits = packed_bits(page)
    return ~pixels if bits in (None, 1) else 2**bits - 1 - pixels


def _refuse_too_much(path: Path, planes: int, page: Any) -> None:
    if planes > MAX_PHASES or planes * page.imagelength * page.imagewidth * page.dtype.itemsize > _MAX_BYTES:
        raise FieldError(
            f"{path}: holds {planes} pages or channels of {page.imagewidth} x {page.imagelength} px, too many for a mask. "
            "Remedy: save the page with the labels alone."
        )


def joined(planes: Planes) -> NDArray[np.uint8]:
    """The place of the page or channel that is on, for every pixel of a one-hot mask.

    Args:
        planes: the pages or channels: 0 and one other value.

    Returns:
        uint8 (h, w), from 0.

    Raises:
        InputError: more than two values, or a pixel that is on none or on several.
    """
    pixels, found = planes.pixels, f"mask {planes.path}: holds {len(planes.pixels)} {planes.what} that are not one-hot"
    remedy = "Remedy: save the labels as one page with one channel."
    on = pixels != 0
    values = np.unique(pixels[on])
    if len(values) > 1:
        raise InputError(f"{found} (values from {values[0]:g} to {values[-1]:g} beside 0). {remedy}")
    several = on.sum(0, dtype=np.uint8)
    if (several != 1).any():
        none, many = int((several == 0).sum()), int((several > 1).sum())
        raise InputError(
            f"{found} ({none} pixels are on none of them, {many} on more than one). {remedy} In a one-hot mask each pixel is "
            f"on exactly one of the {planes.what}."
        )
    return np.asarray(on.argmax(0), np.uint8)
