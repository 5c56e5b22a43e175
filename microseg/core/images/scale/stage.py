"""Where on the stage a micrograph was taken, as its TIFF file states it. Written from descriptions of the tags."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import tifffile

from microseg.core.images.scale.lengths import number, um_per
from microseg.core.images.scale.texts import sections
from microseg.core.images.scale.vendor_tags import FEI, TESCAN, ZEISS, tag_text

_SUFFIXES = (".tif", ".tiff")
# Metadata of some thousand planes.
_MOST_CHARACTERS = 16 << 20
_ZEISS = r"AP_STAGE_AT_{axis}\s*\r?\n[^\r\n=]*=\s*([-+.,0-9eE]+)\s*([^\s\d]+)"
_TESCAN = r"(?<![A-Za-z])Stage{axis}\s*=\s*([-+.,0-9eE]+)"


def stage_position(path: Path) -> tuple[float, float] | None:
    """X and Y of the stage in micrometres, as the file states them.

    Zeiss tag 34118 (AP_STAGE_AT_X), FEI tags 34680 and 34682 ([Stage] StageX, m), TESCAN tag 50431 (StageX, m), and the plane
    of OME-XML (PositionX). The axes of stage and picture may point in other directions.

    Args:
        path: the file.

    Returns:
        The position; None where the file is no TIFF, is damaged, states none, or states the origin, which a microscope without
        a motorised stage writes.
    """
    if path.suffix.lower() not in _SUFFIXES:
        return None
    # A damaged tag counts as none: the micrograph is read elsewhere, which reports it.
    with contextlib.suppress(Exception), tifffile.TiffFile(path) as tif:
        for read in (_zeiss, _fei, _tescan, _ome):
            with contextlib.suppress(Exception):
                found = read(tif, tif.pages[0])
                if found is not None:
                    return None if found == (0.0, 0.0) else found
    return None


def _zeiss(tif: tifffile.TiffFile, page: Any) -> tuple[float, float] | None:
    return _both(*(_written(tag_text(tif, page, ZEISS), _ZEISS.format(axis=axis)) for axis in "XY"))


def _tescan(tif: tifffile.TiffFile, page: Any) -> tuple[float, float] | None:
    return _both(*(_written(tag_text(tif, page, TESCAN), _TESCAN.format(axis=axis)) for axis in "XY"))


def _fei(tif: tifffile.TiffFile, page: Any) -> tuple[float, float] | None:
    for code in FEI:
        stage = sections(tag_text(tif, page, code)).get("stage", {})
        if (found := _both(*(_um(stage.get(f"stage{axis}", ""), "m") for axis in "xy"))) is not None:
            return found
    return None


def _ome(tif: tifffile.TiffFile, page: Any) -> tuple[float, float] | None:
    text = tif.ome_metadata
    if not text or len(text) > _MOST_CHARACTERS:
        return None
    # Imported here: other files need no XML parser. A DTD and its entities are refused: the file is not trusted.
    from defusedxml.ElementTree import fromstring

    planes = [each for each in fromstring(text, forbid_dtd=True).iter() if each.tag.rpartition("}")[2] == "Plane"]
    places = {
        _both(*(_um(plane.get(f"Position{axis}", ""), plane.get(f"Position{axis}Unit", "")) for axis in "XY"))
        for plane in planes
    }
    # Planes of several places: nothing tells which of them is the page that is measured.
    return next(iter(places)) if len(places) == 1 else None


def _written(text: str, pattern: str) -> float | None:
    """The position after a pattern, whose second group is the unit; metres without one."""
    found = re.search(pattern, text, re.IGNORECASE)
    return None if found is None else _um(found[1], found[2] if len(found.groups()) > 1 else "m")


def _um(value: str, unit: str) -> float | None:
    """A position, which may be negative, in micrometres."""
    known, factor = number(value), um_per(unit)
    return None if known is None or factor is None else known[0] * factor


def _both(x_um: float | None, y_um: float | None) -> tuple[float, float] | None:
    return None if x_um is None or y_um is None else (x_um, y_um)
