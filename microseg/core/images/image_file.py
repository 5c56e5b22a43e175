"""Image files to pixels: one `Raster` for each file, by its content."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from microseg.core.errors import FieldError
from microseg.core.images.formats.known import microscope_reader
from microseg.core.images.orientation import StoredGrid
from microseg.core.images.pages import Selection, refuse_channel
from microseg.core.images.raster import Raster
from microseg.core.notices import Notice

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_raster(path: Path, selection: Selection = Selection()) -> Raster:
    """Open an image by its content, whatever its suffix.

    Args:
        path: the file.
        selection: the page and the channel of a file that holds several.

    Raises:
        FieldError: the file is missing, empty, damaged or not supported.
    """
    try:
        with path.open("rb") as stream:
            magic = stream.read(16)
    except OSError as error:
        raise FieldError(
            f"{path}: cannot be opened ({error.strerror or error}). Remedy: check the path and its rights."
        ) from error
    if not magic:
        raise FieldError(f"{path}: is empty (0 bytes). Remedy: copy or save the image again.")
    # Imported here: a station that reads TIFF alone starts without the other decoders.
    if reader := microscope_reader(path, magic):
        return _selected(reader(path), selection)
    if magic[:4] in _TIFF_MAGIC:
        from microseg.core.images.tiff import open_tiff

        return open_tiff(path, selection)
    from microseg.core.images.bitmap import open_bitmap

    return _selected(open_bitmap(path), selection)


def _selected(raster: Raster, selection: Selection) -> Raster:
    """One channel of a file with a single page. Raises FieldError where it has no such page or channel."""
    if selection.page not in (None, 1):
        raise FieldError(f"{raster.path}: has 1 page, and page {selection.page} is asked for. Remedy: another --page.")
    if selection.channel is None:
        return raster
    read, index = raster.read, selection.channel - 1
    channels = 3 if raster.palette is None and read(0, 1).ndim == 3 else 1
    if index >= channels:
        raise refuse_channel(raster.path, channels, selection.channel)
    if channels == 1:
        return raster
    told = Notice("page", f"channel {selection.channel} of {channels} is measured")
    return replace(raster, read=lambda start, stop: read(start, stop)[..., index], notices=(*raster.notices, told))


def stored_grid(path: Path, page: int | None = None) -> StoredGrid:
    """Size and orientation from the file's header. Raises FieldError where the file cannot be read.

    Args:
        path: the file.
        page: number of the page, from 1; None for what the file says.
    """
    try:
        with path.open("rb") as stream:
            is_tiff = stream.read(4) in _TIFF_MAGIC
        if is_tiff:
            from microseg.core.images.tiff import tiff_grid

            return tiff_grid(path, page)
        from microseg.core.images.bitmap import bitmap_grid

        return bitmap_grid(path)
    except Exception:  # what a damaged header raises; opening the file reports it
        with open_raster(path, Selection(page)) as raster:
            return StoredGrid(raster.height, raster.width, raster.orientation)
