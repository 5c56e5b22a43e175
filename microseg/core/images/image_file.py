"""Image files to pixels: one `Raster` for each file, by its content."""

from __future__ import annotations

from pathlib import Path

from microseg.core.errors import FieldError
from microseg.core.images.formats.known import microscope_reader
from microseg.core.images.orientation import StoredGrid
from microseg.core.images.raster import Raster

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_raster(path: Path) -> Raster:
    """Open an image by its content, whatever its suffix.

    Args:
        path: the file.

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
        return reader(path)
    if magic[:4] in _TIFF_MAGIC:
        from microseg.core.images.tiff import open_tiff

        return open_tiff(path)
    from microseg.core.images.bitmap import open_bitmap

    return open_bitmap(path)


def stored_grid(path: Path) -> StoredGrid:
    """Size and orientation from the file's header. Raises FieldError where the file cannot be read."""
    try:
        with path.open("rb") as stream:
            is_tiff = stream.read(4) in _TIFF_MAGIC
        if is_tiff:
            from microseg.core.images.tiff import tiff_grid

            return tiff_grid(path)
        from microseg.core.images.bitmap import bitmap_grid

        return bitmap_grid(path)
    except Exception:  # what a damaged header raises; opening the file reports it
        with open_raster(path) as raster:
            return StoredGrid(raster.height, raster.width, raster.orientation)
