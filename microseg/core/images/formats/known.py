"""File formats of microscopes by their suffix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from microseg.core.errors import FieldError
from microseg.core.images.raster import Raster

READ_WITH_EXTRA = {".czi": "Zeiss CZI", ".dm3": "DigitalMicrograph DM3", ".dm4": "DigitalMicrograph DM4"}
"""Formats that are read where the extra `formats` is installed."""

NOT_READ = {
    ".lif": "Leica LIF",
    ".lei": "Leica LEI",
    ".xlif": "Leica XLIF",
    ".oib": "Olympus OIB",
    ".oif": "Olympus OIF",
    ".oir": "Olympus OIR",
    ".poir": "Olympus POIR",
    ".vsi": "Olympus VSI",
    ".nd2": "Nikon ND2",
    ".emd": "EMD",
    ".ser": "TIA SER",
    ".ims": "Imaris IMS",
    ".zvi": "Zeiss ZVI",
}
"""Formats that are named in a report as not read."""

_CZI_MAGIC = b"ZISRAWFILE"
# The version of a DigitalMicrograph file is its first number, big-endian.
_DM_MAGIC = {".dm3": b"\0\0\0\3", ".dm4": b"\0\0\0\4"}


def microscope_reader(path: Path, head: bytes) -> Callable[[Path], Raster] | None:
    """The reader of a microscope's file, or None for an image of another kind.

    Args:
        path: the file.
        head: its first bytes, 10 or more where it has them.

    Raises:
        FieldError: the format is not read, or needs a package that is not installed.
    """
    suffix = path.suffix.lower()
    if suffix in NOT_READ:
        raise FieldError(
            f"{path}: not read: a {NOT_READ[suffix]} file. Remedy: save it as TIFF with the microscope's program."
        )
    try:
        if head.startswith(_CZI_MAGIC):
            from microseg.core.images.formats.czi import open_czi

            return open_czi
        if (magic := _DM_MAGIC.get(suffix)) and head.startswith(magic):
            from microseg.core.images.formats.digital_micrograph import open_dm

            return open_dm
    except ModuleNotFoundError as error:
        kind = READ_WITH_EXTRA.get(suffix, READ_WITH_EXTRA[".czi"])
        raise FieldError(
            f"{path}: not read: a {kind} file needs the package {error.name!r}, which is not installed. Remedy: pip install "
            "'microseg[formats]', or save it as TIFF with the microscope's program."
        ) from error
    return None
