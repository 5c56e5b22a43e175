"""Micrographs as rows of grey values, whatever the file format."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError, MicrosegError
from microseg.core.images.colour import coloured_rows, find_coloured, grey_channel
from microseg.core.images.exclusion import Exclusion
from microseg.core.images.folders import IMAGE_SUFFIXES, find_images
from microseg.core.images.image_file import open_raster
from microseg.core.images.pages import Selection
from microseg.core.images.pixel_size import PixelSize
from microseg.core.images.raster import Raster, shades
from microseg.core.images.scale.sidecars import sidecar_scale
from microseg.core.images.scale.statement import FileScale, StatedScale
from microseg.core.material.stated_bar import StatedBar, bar_beside
from microseg.core.notices import Notice
from microseg.core.schemas.preparation import Crop
from microseg.core.system.files import Closing

__all__ = ["IMAGE_SUFFIXES", "Micrograph", "find_images", "open_micrograph"]


class Micrograph(Closing):
    """One open image, a context manager. One thread at a time may call `rows`.

    Attributes:
        path: the file.
        height, width: size in native pixels.
        dtype: uint8, uint16 or float32.
        beside: what texts beside the file state about the size of a pixel.
        scale: size of a pixel as the file and these texts state it.
        exclusions: pixels that the file marks as no part of the picture.
        is_lossy: whether the values come from JPEG.
        orientation: how viewers turn the picture, 1 to 8. Everything here is on the stored grid.
        white_is_zero: whether the file stores white as 0: the grey values are inverted within their type.
        data_bar: the data bar at the bottom that the file or a text beside it states, or None.
        notices: what was dropped or changed, for the user.
    """

    def __init__(self, raster: Raster, beside: FileScale = FileScale()) -> None:
        """Args:
        raster: the pixels.
        beside: what texts beside the file state about the size of a pixel.
        """
        self._raster = raster
        self.path: Path = raster.path
        self.height: int = raster.height
        self.width: int = raster.width
        self.dtype: np.dtype[Any] = np.dtype(np.uint8) if raster.palette is not None else _grey_dtype(raster)
        self.beside: FileScale = beside
        self.scale: StatedScale = (raster.scale + beside).checked(raster.width)
        self.exclusions: tuple[Exclusion, ...] = raster.exclusions
        self.data_bar: StatedBar | None = raster.data_bar
        self.notices: tuple[Notice, ...] = raster.notices
        self.is_lossy: bool = raster.lossy
        self.orientation: int = raster.orientation
        if raster.orientation != 1:
            stated = f"the file states orientation {raster.orientation}, by which viewers turn the picture"
            self.notices += (Notice("file", f"{stated}: mask and overlay keep the stored rows and columns"),)
        self.white_is_zero: bool = raster.white_is_zero and self.dtype.kind == "u"
        if self.white_is_zero:
            self.notices += (Notice("file", "the file stores white as zero: it is inverted, as viewers do"),)

    def rows(self, start: int, stop: int, left: int = 0, right: int | None = None) -> NDArray[Any]:
        """Grey values of a part of the image.

        Args:
            start: first row.
            stop: the row after the last.
            left: first column.
            right: the column after the last; None: to the end.

        Returns:
            (stop - start, columns) of `dtype`; 0 where the file marks a pixel as no part of the picture. Memory is bounded by
            this and, in TIFF, by one row of tiles.

        Raises:
            FieldError: the part is coloured, holds values that are not finite, or the file is damaged.
        """
        if not 0 <= start <= stop <= self.height:
            raise ValueError(f"rows {start}:{stop} of {self.height}")
        if start == stop:
            return np.empty((0, len(range(self.width)[left:right])), self.dtype)
        with damage_told(self.path):
            return self._rows(start, stop, left, right)

    def _rows(self, start: int, stop: int, left: int, right: int | None) -> NDArray[Any]:
        block = self._raster.read(start, stop)[:, left:right]
        hidden = self._hidden(start, stop, left, right)
        if hidden is not None and self._raster.palette is None:
            # What such a pixel holds may be a colour, or not a number.
            block = np.where(hidden if block.ndim == 2 else hidden[..., None], block.dtype.type(0), block)
        if self._raster.palette is not None:
            grey = self._through_palette(block, self._raster.palette, hidden)
        elif block.ndim == 3:
            channel = grey_channel(block, self._raster.lossy)
            if channel is None:
                raise self._coloured()
            grey = channel
        else:
            bits = self._raster.bits
            grey = np.take(shades(bits), block) if bits is not None and bits < 8 else block
        grey = self._converted(grey)
        return grey if hidden is None else np.where(hidden, grey.dtype.type(0), grey)

    def raw_rows(self, start: int, stop: int) -> NDArray[Any]:
        """Grey values of whole rows, or their green channel, with no check: for a look at rows that may be no picture.

        Args:
            start: first row.
            stop: the row after the last.

        Returns:
            (stop - start, width), as the file stores them.
        """
        block = self._raster.read(start, stop)
        if self._raster.palette is not None:
            return np.take(self._raster.palette[:, 1], block, mode="clip")
        return block[..., 1] if block.ndim == 3 else block

    def allow_coloured(self, percent: float, crop: Crop) -> None:
        """Take coloured pixels as not measured, where they are no more than so many percent of what the crop leaves.

        Args:
            percent: the largest share, 0-100.
            crop: native pixels that are cut off.

        Raises:
            FieldError: more pixels are coloured.
        """
        found = find_coloured(self._raster, crop) if percent else None
        if found is None:
            return
        if 100 * found.share > percent:
            raise found.refused(self.path)
        rows = partial(coloured_rows, self._raster)
        self.exclusions += (Exclusion("coloured", rows),)
        self.notices += (Notice("colour", f"{found.text}: they are not measured"),)

    @property
    def pixel_size(self) -> PixelSize | None:
        """Size of a pixel as the file and the texts beside it state it; None where nothing or a contradiction does."""
        return self.scale.pixel_size

    @property
    def pixel_size_um(self) -> float | None:
        """Edge of a pixel along a row in micrometres as the file states it, or None."""
        return None if self.pixel_size is None else self.pixel_size.width_um

    def close(self) -> None:
        """Close the file."""
        self._raster.close()

    def _hidden(self, start: int, stop: int, left: int, right: int | None) -> NDArray[np.bool_] | None:
        """Pixels that the file marks as no part of the picture, or None: whatever they hold does not matter."""
        if not self.exclusions:
            return None
        return np.asarray(np.logical_or.reduce([each.rows(start, stop)[:, left:right] for each in self.exclusions]))

    def _through_palette(
        self, block: NDArray[Any], palette: NDArray[np.uint8], hidden: NDArray[np.bool_] | None
    ) -> NDArray[np.uint8]:
        is_grey = (palette == palette[:, :1]).all(axis=1)
        if not is_grey.all() and not is_grey[np.unique(block if hidden is None else block[~hidden])].all():
            raise self._coloured()
        return np.take(palette[:, 0], block)

    def _coloured(self) -> FieldError:
        found = find_coloured(self._raster, Crop())
        assert found is not None
        return found.refused(self.path)

    def _converted(self, grey: NDArray[Any]) -> NDArray[Any]:
        if grey.dtype.kind == "f":
            # A double beyond the range of float32 becomes infinite and is refused below.
            with np.errstate(over="ignore"):
                grey = grey.astype(np.float32, copy=False)
            bad = int(grey.size - np.count_nonzero(np.isfinite(grey)))
            if bad:
                raise FieldError(
                    f"{self.path}: at least {bad} pixels are NaN or infinite. Remedy: fill them, or cut them off with `crop`."
                )
        elif grey.dtype == np.int16:
            if grey.size and grey.min() < 0:
                raise FieldError(
                    f"{self.path}: signed 16 bit with negative values. Remedy: save it as unsigned 16 bit."
                )
            grey = grey.astype(np.uint16)
        if self.white_is_zero:
            grey = np.iinfo(grey.dtype).max - grey
        return grey


def _grey_dtype(raster: Raster) -> np.dtype[Any]:
    match raster.dtype.name:
        case "uint8" | "uint16" | "float32" as name:
            return np.dtype(name)
        case "int16":
            return np.dtype(np.uint16)
        case "float16" | "float64":
            return np.dtype(np.float32)
        case name:
            raise FieldError(
                f"{raster.path}: pixels are {name}. Remedy: save it with 8 or 16 bit unsigned, or as 32-bit float."
            )


def open_micrograph(path: Path, selection: Selection = Selection()) -> Micrograph:
    """Open an image file as a grey micrograph.

    Args:
        path: an image, or a file of a microscope.
        selection: the page and the channel of a file that holds several.

    Returns:
        The micrograph. Small files are decoded here, large TIFF files while rows are read.

    Raises:
        FieldError: the file is missing, empty, damaged, cut off or not supported.
    """
    with damage_told(path):
        raster = open_raster(path, selection)
        try:
            raster.data_bar = raster.data_bar or bar_beside(path, raster.height, raster.width)
            return Micrograph(raster, sidecar_scale(path))
        except BaseException:
            raster.close()
            raise


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """A block that reads a file. Sizes, tables and texts of a damaged file contradict each other, which can raise anything."""
    try:
        yield
    except (MicrosegError, OSError):
        raise
    except Exception as error:
        raise FieldError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). Remedy: save it again as TIFF with the program that "
            "shows it, or remove it."
        ) from error
