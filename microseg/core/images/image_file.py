"""Files to pixels: one `Raster` per image file, by its content."""

from __future__ import annotations

from pathlib import Path

from microseg.core.errors import FieldError
from microseg.core.images.raster import Raster

_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_raster(path: Path) -> Raster:
    """Open an image by its content, whatever its suffix. Raises FieldError that names the file and the reason."""
    try:
        with path.open("rb") as stream:
            magic = stream.read(4)
    except OSError as error:
        raise FieldError(f"{path}: cannot be opened ({error.strerror or error}).") from error
    if not magic:
        raise FieldError(f"{path}: is empty (0 bytes). Remedy: copy or save the image again.")
    # Here rather than above: a station that reads TIFF alone starts without the other decoders.
    if magic in _TIFF_MAGIC:
        from microseg.core.images.tiff import open_tiff

        return open_tiff(path)
    from microseg.core.images.bitmap import open_bitmap

    return open_bitmap(path)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width from the file's header alone. Raises FieldError."""
    try:
        with path.open("rb") as stream:
            is_tiff = stream.read(4) in _TIFF_MAGIC
        if is_tiff:
            from microseg.core.images.tiff import tiff_size

            return tiff_size(path)
        from microseg.core.images.bitmap import bitmap_size

        return bitmap_size(path)
    except Exception:  # whatever a damaged header raises: opening it in full says it in our words
        with open_raster(path) as raster:
            return raster.height, raster.width
