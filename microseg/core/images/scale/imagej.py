"""The scale that ImageJ and Fiji write into TIFF files."""

from __future__ import annotations

import re
from typing import Any

from microseg.core.images.scale.lengths import um_per
from microseg.core.images.scale.statement import FileScale, Statement
from microseg.core.images.scale.texts import decoded

_DESCRIPTION, _RESOLUTIONS = 270, (282, 283)
_MOST_BYTES = 1 << 16
_UM_PER_INCH = 25400.0
# Resolutions of printers, scanners and screens. ImageJ keeps them as a scale in inches or centimetres.
_PRINTERS_DPI = (
    72,
    96,
    100,
    120,
    144,
    150,
    180,
    200,
    240,
    250,
    300,
    350,
    360,
    400,
    600,
    720,
    800,
    1200,
    1440,
    2400,
    4800,
)
_SAME_DPI = 0.005
_UNITS = {1e-6: "pm", 1e-4: "Å", 1e-3: "nm", 1.0: "µm", 1e3: "mm", 1e4: "cm", _UM_PER_INCH: "inch", 1e6: "m"}


def imagej(tif: Any, page: Any) -> FileScale:
    """Pixels per unit in XResolution and YResolution, with the unit in ImageJ's description."""
    # ImageJ describes a stack on its first page.
    first = tif.pages.first
    tag = page.tags.get(_DESCRIPTION) or (first.tags.get(_DESCRIPTION) if first.imagewidth == page.imagewidth else None)
    if tag is None:
        return FileScale()
    tif.filehandle.seek(tag.valueoffset)
    text = decoded(tif.filehandle.read(min(int(tag.count), _MOST_BYTES)))
    if not text.startswith("ImageJ="):
        return FileScale()
    stated: dict[str, str] = dict(re.findall(r"^(unit|yunit)=(.*)$", text, re.MULTILINE))
    across, down = (_per_unit(page, code) for code in _RESOLUTIONS)
    if (unit := stated.get("unit")) is None or across is None or (factor := um_per(unit)) is None:
        return FileScale()
    source = f"ImageJ (pixels per {_UNITS.get(factor, 'unit')})"
    dpi = across * _UM_PER_INCH / factor
    # JPEG files state whole pixels per centimetre.
    same = max(_SAME_DPI, 0.5 / across)
    printers = next((each for each in _PRINTERS_DPI if abs(dpi / each - 1) <= same), None)
    if printers is not None and factor in (1e4, _UM_PER_INCH):
        return FileScale(
            remarks=(
                f"ImageJ states {across:.6g} pixels per {_UNITS[factor]}, the {printers} dpi of a printer, scanner or screen: "
                "no scale",
            )
        )
    down_factor = um_per(stated.get("yunit", unit))
    height_um = down_factor / down if down is not None and down_factor is not None else None
    return FileScale((Statement(factor / across, source, height_um),))


def _per_unit(page: Any, code: int) -> float | None:
    """Pixels per unit, or None."""
    found = page.tags.valueof(code)
    if not isinstance(found, tuple) or len(found) != 2 or not all(found):
        return None
    return float(found[0]) / float(found[1])
