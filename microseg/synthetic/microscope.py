"""TIFF files that state their pixel size as the microscope of each domain does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from microseg.core.system.files import replacing

_ZEISS_TAG = 34118
# The width of the monitor picture that AP_PIXEL_SIZE belongs to on a Zeiss microscope.
_MONITOR_PX = 1024


def write_sem_tiff(path: Path, image: NDArray[np.uint8], pixel_size_um: float) -> None:
    """Write 8-bit grey with the text of a Zeiss SEM (tag 34118), atomically.

    Args:
        path: the file.
        image: uint8 (H, W).
        pixel_size_um: edge of a pixel in micrometres.
    """
    width_um = image.shape[1] * pixel_size_um
    # The unnamed header lines of a real file are numbers; readers skip them.
    lines = [
        "1024",
        "DP_DETECTOR_CHANNEL",
        "Signal A = InLens",
        "AP_ACTUALKV",
        "EHT =  5.00 kV",
        "AP_WD",
        "WD =  5.0 mm",
        "AP_WIDTH",
        f"Width = {width_um:.5g} µm",
        "AP_PIXEL_SIZE",
        f"Pixel Size = {width_um / _MONITOR_PX * 1e3:.5g} nm",
        "AP_IMAGE_PIXEL_SIZE",
        f"Image Pixel Size = {pixel_size_um * 1e3:.5g} nm",
    ]
    text = ("\r\n".join(lines) + "\r\n\0").encode("cp1252")
    with replacing(path) as part:
        tifffile.imwrite(
            part,
            image,
            photometric="minisblack",
            metadata=None,
            extratags=[(_ZEISS_TAG, 2, len(text), text, True)],
        )


def write_lom_tiff(path: Path, image: NDArray[np.uint8], pixel_size_um: float) -> None:
    """Write 8-bit grey as programs of light microscopes do: pixels per unit, and the unit in ImageJ's description.

    Args:
        path: the file.
        image: uint8 (H, W).
        pixel_size_um: edge of a pixel in micrometres.
    """
    with replacing(path) as part:
        tifffile.imwrite(
            part,
            image,
            imagej=True,
            resolution=(1 / pixel_size_um, 1 / pixel_size_um),
            metadata={"unit": "um", "axes": "YX"},
        )
