"""TIFF in bounded memory: only the strips or tiles that hold the wanted rows are decoded.

tifffile's own `asarray` decodes a page as a whole: 400 MB for a grey field of 20,000 x 20,000 px, several times that with
what decoders copy. `python -m benchmarks.memory` prints what `segment` takes for such a field: 1,668 MB, engine included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.exclusion import Exclusion
from microseg.core.images.orientation import StoredGrid, known_orientation
from microseg.core.images.pages import ChosenPage, Selection, choose_page, refuse_channel
from microseg.core.images.raster import Raster, shades
from microseg.core.images.scale.tiff_scale import tiff_scale
from microseg.core.images.segments import AGAIN, JPEG, Segments, packed_bits, too_short
from microseg.core.material.stated_bar import bar_in_tags
from microseg.core.material.transparency import TRANSPARENT, is_transparent
from microseg.core.notices import Notice

# A page up to this size is decoded at once and the file closed: one read, and an error comes before the measurement.
_WHOLE_BYTES = 64 << 20
# A strip or tile is the smallest part that can be decoded. A larger one would take more memory than a station has.
_MAX_SEGMENT_BYTES = 1 << 30
# ExtraSamples of an alpha channel, associated (1) and unassociated (2): TIFF 6.0, section 18.
_ALPHA = ((1,), (2,))
NEVER_WRITTEN = "in tiles that were never written"


def open_tiff(path: Path, selection: Selection = Selection()) -> Raster:
    """Open the page of a TIFF file that is the micrograph.

    Args:
        path: the file.
        selection: the page and the channel; see `choose_page`.

    Returns:
        Its pixels. A page of up to 64 MiB is decoded here and the file closed; a larger one is decoded while it is read.

    Raises:
        FieldError: the file is damaged, cut off, or of a kind that cannot be read.
    """
    with _decoding(path):
        tif = tifffile.TiffFile(path)
    try:
        with _decoding(path):
            chosen = choose_page(path, tif, selection.page)
            raster = _raster(path, tif, chosen, selection.channel)
            if raster.height * raster.width * _samples(chosen.page) * raster.dtype.itemsize <= _WHOLE_BYTES:
                _hold(raster)
    except BaseException:
        tif.close()
        raise
    return raster


def _hold(raster: Raster) -> None:
    """Decode a page as a whole and close its file."""
    pixels = raster.read(0, raster.height)
    held = [Exclusion.of(each.reason, each.rows(0, raster.height)) for each in raster.exclusions]
    raster.read = lambda start, stop: pixels[start:stop]
    raster.exclusions = tuple(each for each in held if each.rows(0, raster.height).any())
    raster.close()


def tiff_grid(path: Path, page_number: int | None = None) -> StoredGrid:
    """Size and orientation from the header of a page. Raises FieldError, and what tifffile raises for a damaged file."""
    with tifffile.TiffFile(path) as tif:
        page: Any = choose_page(path, tif, page_number).page
        return StoredGrid(page.imagelength, page.imagewidth, known_orientation(page.tags.valueof(274)))


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """A block in which every error of a decoder becomes a FieldError."""
    try:
        yield
    except FieldError:
        raise
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise FieldError(f"{path}: cannot be decoded ({reason}). {AGAIN}") from error


def _samples(page: Any) -> int:
    return int(page.samplesperpixel)


def _raster(path: Path, tif: tifffile.TiffFile, chosen: ChosenPage, channel: int | None) -> Raster:
    page: Any = chosen.page
    height, width, samples, bits = int(page.imagelength), int(page.imagewidth), _samples(page), packed_bits(page)
    if page.dtype is None or page.imagedepth != 1 or height * width == 0:
        raise FieldError(
            f"{path}: {page.bitspersample}-bit TIFF of this kind cannot be read. Remedy: save 8 or 16 bit."
        )
    planes = samples if page.planarconfig == 2 else 1
    read_planes, never_written = _reader(path, tif, page, planes, chosen.skipped)
    notices = list(chosen.notices)
    has_alpha = samples in (2, 4) and page.extrasamples[-1:] in _ALPHA
    # RGB with a fourth sample of unknown meaning: many programs call alpha so.
    is_padded = samples == 4 and not has_alpha and page.photometric == tifffile.PHOTOMETRIC.RGB
    channels = samples - (has_alpha or is_padded)
    if channel is not None:
        if channel > channels:
            raise refuse_channel(path, channels, channel)
        if channels > 1:
            notices.append(Notice("page", f"channel {channel} of {channels} is measured"))
    elif channels not in (1, 3) or page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise FieldError(
            f"{path}: {channels} channels (not grey, not RGB), and nothing says which is the micrograph. Remedy: --channel N, "
            "or `channel: N` in domain.yaml."
        )
    if has_alpha or is_padded:
        notices.append(Notice("file", "alpha channel dropped" if has_alpha else "last channel dropped"))
    palette = _palette(page)
    is_binary = bits == 1 and palette is None
    rows = _PageRows(path, page, read_planes, has_alpha, channel, is_binary=is_binary)
    return Raster(
        path,
        height,
        width,
        np.dtype(np.uint8) if bits == 1 else np.dtype(page.dtype).newbyteorder("="),
        rows.read,
        palette=palette,
        white_is_zero=page.photometric == tifffile.PHOTOMETRIC.MINISWHITE,
        one_bit=is_binary,
        bits=None if is_binary or rows.is_colour else bits,
        lossy=page.compression in JPEG,
        orientation=known_orientation(page.tags.valueof(274)),
        exclusions=(
            *((Exclusion(TRANSPARENT, rows.transparent),) if has_alpha else ()),
            *(() if never_written is None else (Exclusion(NEVER_WRITTEN, never_written),)),
        ),
        scale=tiff_scale(tif, page),
        data_bar=bar_in_tags(tif, page),
        notices=tuple(notices),
        close=tif.close,
    )


def _palette(page: Any) -> NDArray[np.uint8] | None:
    """Colours of the values of a page with a colour map, uint8 (entries, 3); None for another page."""
    if page.colormap is None or page.photometric != tifffile.PHOTOMETRIC.PALETTE:
        return None
    table = np.asarray(page.colormap)
    # TIFF 6.0 has 16 bits an entry. Programs wrote 8, so that all colours would be black.
    return np.ascontiguousarray((table if table.max() <= 255 else table >> 8).astype(np.uint8).T)


def _reader(
    path: Path, tif: tifffile.TiffFile, page: Any, planes: int, skipped: int
) -> tuple[Callable[[int, int], NDArray[Any]], Callable[[int, int], NDArray[np.bool_]] | None]:
    """A function that gives rows of all planes, and one that says which pixels were never written, if any."""
    height, width = int(page.imagelength), int(page.imagewidth)
    row_bytes = width * _samples(page) // planes * page.dtype.itemsize
    if page.is_final and np.all(page.dataoffsets):
        needed = int(page.dataoffsets[0]) + (skipped + 1) * planes * height * row_bytes
        if needed > tif.filehandle.size:
            raise too_short(path, "pixels", needed, tif.filehandle.size)
        return _plain_reader(tif, page, planes, skipped), None
    if skipped:
        raise FieldError(f"{path}: page {skipped + 1} has no header of its own. Remedy: save it as a file.")
    if not all(isinstance(side, Integral) for side in (page.tilelength, page.tilewidth, page.rowsperstrip)):
        # Of a damaged file. Such a tuple, times a width, takes gigabytes.
        raise FieldError(f"{path}: states several sizes of its tiles or strips. {AGAIN}")
    # A row of tiles is kept.
    strip = min(page.rowsperstrip, height) * row_bytes
    band = max(page.tilelength * page.tilewidth, min(page.tilelength, height) * width)
    if (band * row_bytes // width if page.is_tiled else strip) * planes > _MAX_SEGMENT_BYTES:
        kind = "row of tiles" if page.is_tiled else "strip"
        raise FieldError(f"{path}: one {kind} of more than 1 GiB. Remedy: save it as TIFF with tiles or short strips.")
    segments = Segments(path, tif, page, planes)
    return _segment_reader(segments, page, planes), segments.never_written(planes)


class _PageRows:
    """Rows of a page: its grey values, indices or colours, and where its alpha channel is transparent."""

    def __init__(
        self,
        path: Path,
        page: Any,
        read_planes: Callable[[int, int], NDArray[Any]],
        has_alpha: bool,
        channel: int | None,
        *,
        is_binary: bool,
    ) -> None:
        self._path = path
        self._planes = int(page.samplesperpixel) if page.planarconfig == 2 else 1
        self.is_colour = channel is None and page.samplesperpixel >= 3
        self._channels: int | slice = slice(0, 3) if self.is_colour else (channel or 1) - 1
        self._bits = packed_bits(page)
        self._is_binary = is_binary
        # Image codecs give RGB, but planes are decoded one by one.
        is_decoded = page.compression in tifffile.TIFF.IMAGE_COMPRESSIONS or page.compression in JPEG
        is_luma = page.photometric == tifffile.PHOTOMETRIC.YCBCR and (self._planes > 1 or not is_decoded)
        self._is_ycbcr = self.is_colour and is_luma and page.dtype == np.uint8
        self._read_planes = read_planes
        self._has_alpha = has_alpha
        self._kept: tuple[int, int, NDArray[Any], NDArray[np.bool_] | None] | None = None

    def read(self, start: int, stop: int) -> NDArray[Any]:
        """Rows as `Raster.read` gives them. The last ones are kept: what is not measured is looked up beside their values."""
        return self._rows(start, stop)[2]

    def transparent(self, start: int, stop: int) -> NDArray[np.bool_]:
        """Where the rows are transparent, bool (n, width)."""
        found = self._rows(start, stop)[3]
        assert found is not None
        return found

    def _rows(self, start: int, stop: int) -> tuple[int, int, NDArray[Any], NDArray[np.bool_] | None]:
        if self._kept is None or self._kept[:2] != (start, stop):
            with _decoding(self._path):
                block = self._read_planes(start, stop)  # (planes, n, width, samples of a plane)
                pixels = np.moveaxis(block[..., 0], 0, -1) if self._planes > 1 else block[0]
                hidden = self._transparent(pixels[..., -1]) if self._has_alpha else None
                self._kept = (start, stop, self._shown(pixels[..., self._channels]), hidden)
        return self._kept

    def _transparent(self, alpha: NDArray[Any]) -> NDArray[np.bool_]:
        return is_transparent(alpha) if self._bits is None else np.asarray(alpha < 2**self._bits - 1)

    def _shown(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Grey values, indices or colours of the stored samples of the chosen channels."""
        if self._is_binary:
            return np.where(pixels, np.uint8(255), np.uint8(0))
        if pixels.dtype == np.bool_:
            return pixels.astype(np.uint8)
        if self._is_ycbcr:
            return _rgb(pixels)
        if self.is_colour and self._bits is not None and self._bits < 8:
            return np.take(shades(self._bits), pixels)
        return pixels


def _rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Colours of Y, Cb and Cr, uint8 (n, width, 3), by the coefficients of ITU-R BT.601 that TIFF 6.0, section 21, takes."""
    import cv2

    return np.asarray(cv2.cvtColor(np.ascontiguousarray(pixels[..., [0, 2, 1]]), cv2.COLOR_YCrCb2RGB), np.uint8)


def _plain_reader(tif: tifffile.TiffFile, page: Any, planes: int, skipped: int) -> Callable[[int, int], NDArray[Any]]:
    """Rows of contiguous uncompressed data behind so many skipped pages, one read for each plane.

    The file is not mapped into memory: a mapped file that is cut off ends the process.
    """
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel // planes
    stored = np.dtype(page.dtype).newbyteorder(tif.byteorder)
    row_bytes = width * samples * stored.itemsize
    origin = page.dataoffsets[0] + skipped * planes * height * row_bytes
    handle: Any = tif.filehandle

    def read(start: int, stop: int) -> NDArray[Any]:
        block = np.empty((planes, stop - start, width, samples), stored)
        for plane in range(planes):
            handle.seek(origin + (plane * height + start) * row_bytes)
            pixels = block[plane].reshape(-1).view(np.uint8)
            if handle.readinto(pixels) < pixels.size:
                raise ValueError("the file ends inside the pixels")
        return block.astype(stored.newbyteorder("="), copy=False)

    return read


def _segment_reader(segments: Segments, page: Any, planes: int) -> Callable[[int, int], NDArray[Any]]:
    """Rows of strips or tiles. The last row of tiles, or the last strip, is kept, because stripes overlap."""
    height, width, samples = page.imagelength, page.imagewidth, page.samplesperpixel // planes
    band_rows, band_width = segments.rows, segments.columns
    kept: dict[int, NDArray[Any]] = {}

    def decode(band: int) -> NDArray[Any]:
        rows = min(band_rows, height - band * band_rows)
        block = np.empty((planes, rows, width, samples), np.dtype(page.dtype).newbyteorder("="))
        for plane in range(planes):
            for column in range(segments.across):
                index = (plane * segments.down + band) * segments.across + column
                if segments.missing[index]:
                    block[plane, :, column * band_width : (column + 1) * band_width] = 0
                    continue
                data, left = segments.decode(index)
                target = block[plane, :, left : left + data.shape[1]]
                target[...] = data[:rows, : target.shape[1]]
        return block

    def read(start: int, stop: int) -> NDArray[Any]:
        first, last = start // band_rows, (stop - 1) // band_rows
        block = np.empty((planes, stop - start, width, samples), np.dtype(page.dtype).newbyteorder("="))
        for band in range(first, last + 1):
            if band not in kept:
                decoded = decode(band)
                kept.clear()
                kept[band] = decoded
            top = band * band_rows
            low, high = max(start, top), min(stop, top + band_rows)
            block[:, low - start : high - start] = kept[band][:, low - top : high - top]
        return block

    return read
