"""DigitalMicrograph DM3 and DM4 through nionswift-io."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from nionswift_plugin.DM_IO.dm3_image_utils import load_image

from microseg.core.errors import FieldError
from microseg.core.images.raster import Raster
from microseg.core.images.scale.lengths import um_per
from microseg.core.images.scale.statement import FileScale, Statement


def open_dm(path: Path) -> Raster:
    """Read the image of a DM3 or DM4 file.

    Args:
        path: the file.

    Raises:
        FieldError: the file is damaged, or holds a stack, a spectrum or complex values.
    """
    try:
        with path.open("rb") as stream:
            found = load_image(stream)
        pixels = np.asarray(found.data)
        down, across = ((each.scale, each.units) for each in found.dimensional_calibrations[:2])
    except Exception as error:  # a damaged file makes the parser raise anything
        reason = str(error) or type(error).__name__
        raise FieldError(
            f"{path}: cannot be decoded ({reason}). Remedy: save it as TIFF with DigitalMicrograph."
        ) from error
    if pixels.ndim != 2 or pixels.dtype.kind == "c":
        raise FieldError(
            f"{path}: holds {pixels.dtype} values of the shape {pixels.shape}, not one grey image. Remedy: save the image to "
            "be measured as a file of its own."
        )
    if pixels.dtype.kind in "iu" and pixels.dtype.itemsize > 2 and pixels.min() >= 0 and pixels.max() < 1 << 16:
        pixels = pixels.astype(np.uint16)
    width_um, height_um = (size * (um_per(unit) or 0) for size, unit in (across, down))
    stated = (Statement(width_um, "DigitalMicrograph calibration", height_um=height_um or None),) if width_um else ()
    height, width = pixels.shape
    return Raster(path, height, width, pixels.dtype, lambda start, stop: pixels[start:stop], scale=FileScale(stated))
