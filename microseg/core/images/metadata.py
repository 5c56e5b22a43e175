"""The pixel size that microscopes write into TIFF files. Written from descriptions of the tags."""

from __future__ import annotations

import contextlib
import math
import re
from typing import Any

import tifffile

from microseg.core.images.pixel_size import PixelSize

_UM_PER = {
    "pm": 1e-6,
    "a": 1e-4,
    "å": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "µm": 1.0,
    "μm": 1.0,
    "\\u00b5m": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "inch": 25400.0,
    "m": 1e6,
}


def stated_pixel_size(tif: tifffile.TiffFile) -> PixelSize | None:
    """Size of a pixel, or None where no trusted tag states it.

    Read are Zeiss (34118), FEI (34680, 34682), Olympus SIS (33471, 33560), OME-XML and ImageJ. XResolution alone is not
    trusted: often it is the printer's.

    Args:
        tif: an open TIFF file.
    """
    page = tif.pages.first
    for read, source in _READERS.items():
        # A damaged tag counts as no tag.
        with contextlib.suppress(Exception):
            size = read(tif, page)
            if size is not None and math.isfinite(size) and 1e-7 < size < 1e4:
                return PixelSize.square(float(size), source)
    return None


def _um(value: Any, unit: Any) -> float | None:
    factor = _UM_PER.get(str(unit).strip().lower())
    if factor is None and str(unit).strip().lower().endswith("m") and len(str(unit).strip()) == 2:
        # A micro sign that a code page damaged: one non-ASCII character before m.
        factor = 1.0 if not str(unit).strip()[0].isascii() else None
    return float(value) * factor if factor is not None and float(value) > 0 else None


def _zeiss(tif: tifffile.TiffFile, page: Any) -> float | None:
    """AP_IMAGE_PIXEL_SIZE is the image's. AP_PIXEL_SIZE is the monitor's, which is 1024 px wide."""
    tags = page.tags.valueof(34118)
    if not isinstance(tags, dict):
        return None
    for key, pixels in (("ap_image_pixel_size", 1), ("ap_width", page.imagewidth)):
        entry = tags.get(key)
        if entry and len(entry) >= 3:
            return None if (size := _um(entry[1], entry[2])) is None else size / pixels
    entry = tags.get("ap_pixel_size")
    if entry and len(entry) >= 3 and page.imagewidth == 1024:
        return _um(entry[1], entry[2])
    return None


def _fei(tif: tifffile.TiffFile, page: Any) -> float | None:
    """Scan.PixelWidth in m, else the beam's horizontal field width over the columns."""
    for code in (34680, 34682):
        tags = page.tags.valueof(code)
        if not isinstance(tags, dict):
            continue
        if width := tags.get("Scan", {}).get("PixelWidth"):
            return float(width) * 1e6
        columns = tags.get("Image", {}).get("ResolutionX") or page.imagewidth
        for beam in ("EBeam", "IBeam", "IRBeam"):
            if width := tags.get(beam, {}).get("HFW"):
                return float(width) * 1e6 / float(columns)
    return None


def _olympus(tif: tifffile.TiffFile, page: Any) -> float | None:
    """`pixelsizex` in m, of the structure (33560) or in the INI text (33471), whatever its sections."""
    structure = page.tags.valueof(33560)
    if isinstance(structure, dict) and (size := structure.get("pixelsizex")):
        return float(size) * 1e6
    if (text := page.tags.get(33471)) is None:
        return None
    tif.filehandle.seek(text.valueoffset)
    found = re.search(rb"(?im)^\s*PixelSizeX\s*=\s*([-+.0-9e]+)", tif.filehandle.read(text.count))
    return float(found[1]) * 1e6 if found else None


def _ome(tif: tifffile.TiffFile, page: Any) -> float | None:
    """PhysicalSizeX of the first image with its unit, by default um (OME-XML schema 2016-06, element Pixels)."""
    if not (text := tif.ome_metadata):
        return None
    # Imported here: other files need no XML parser. A DTD and its entities are refused: the file is not trusted.
    from defusedxml.ElementTree import fromstring

    for element in fromstring(text, forbid_dtd=True).iter():
        if element.tag.rpartition("}")[2] == "Pixels":
            size = element.get("PhysicalSizeX")
            return None if size is None else _um(size, element.get("PhysicalSizeXUnit", "um"))
    return None


def _imagej(tif: tifffile.TiffFile, page: Any) -> float | None:
    """ImageJ stores pixels per unit in XResolution and the unit in its description."""
    unit = (tif.imagej_metadata or {}).get("unit")
    resolution = page.tags.valueof(282)
    if unit is None or resolution is None:
        return None
    numerator, denominator = resolution
    return _um(denominator / numerator, unit) if numerator else None


_READERS = {_zeiss: "Zeiss tag 34118", _fei: "FEI tag", _olympus: "Olympus tag", _ome: "OME-XML", _imagej: "ImageJ"}
