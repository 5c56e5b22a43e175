"""The scale in TIFF tags of Zeiss, FEI and Thermo Fisher, Olympus and TESCAN. Written from descriptions of the tags."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import tifffile

from microseg.core.images.scale.lengths import length, number
from microseg.core.images.scale.statement import TOLERANCE, Statement
from microseg.core.images.scale.texts import MOST_BYTES, Sections, decoded, sections, whole_number

ZEISS, FEI, OLYMPUS_INI, OLYMPUS, TESCAN = 34118, (34680, 34682), 33471, 33560, 50431
# SmartSEM's monitor has this many columns: its pixel is the image's where the image is as wide.
_ZEISS_MONITOR_COLUMNS = 1024
_ZEISS_KEY = re.compile(r"\s*[A-Z]{2}_[A-Z0-9_]+\s*")
_FEI_BEAMS = ("EBeam", "IBeam", "IRBeam")
_INI_NUMBER = r"\s*=\s*([-+.,0-9eE]+)"


def zeiss(tif: tifffile.TiffFile, holder: Any, page: Any) -> list[Statement]:
    """Zeiss SmartSEM, tag 34118: pairs of lines, an identifier and `label = value unit`.

    AP_IMAGE_PIXEL_SIZE is the image's. AP_WIDTH is that of the picture of DP_IMAGE_STORE. AP_PIXEL_SIZE is the monitor's.

    Args:
        tif: the open file.
        holder: the page with the tag.
        page: the page that is measured.
    """
    entries = _zeiss_entries(tag_text(tif, holder, ZEISS))
    tag = f"Zeiss tag {ZEISS}"
    stored = re.findall(r"\d+", entries.get("dp_image_store", ""))
    columns, rows = (whole_number(stored[0]), whole_number(stored[1])) if len(stored) == 2 else (None, None)
    pixel, width, height = (length(entries.get(f"ap_{key}", "")) for key in ("image_pixel_size", "width", "height"))
    found = []
    for edge, over, label in ((pixel, 1, "Image Pixel Size"), (width, columns or page.imagewidth, "Width")):
        if edge is not None:
            across = edge.um / over
            # Only a file with the rows that were stored shows the whole height.
            down = across
            if height is not None and rows is not None and rows == page.imagelength:
                down = height.um / rows
            digits = edge.rounding + (height.rounding if height is not None else 0.0)
            is_square = abs(down / across - 1) <= TOLERANCE + digits
            found.append(Statement(across, f"{tag} ({label})", None if is_square else down, columns, edge.rounding))
    monitor = length(entries.get("ap_pixel_size", ""))
    if not found and monitor is not None and page.imagewidth == _ZEISS_MONITOR_COLUMNS:
        found.append(Statement(monitor.um, f"{tag} (Pixel Size)"))
    return found


def _zeiss_entries(text: str) -> Mapping[str, str]:
    """The text after `=` by identifier in lower case, such as "ap_width"."""
    found: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if _ZEISS_KEY.fullmatch(line):
            key = line.strip().lower()
        elif key and "=" in line:
            found.setdefault(key, line.partition("=")[2].strip())
            key = ""
    return found


def fei(tif: tifffile.TiffFile, holder: Any, page: Any) -> list[Statement]:
    """FEI and Thermo Fisher, tags 34680 and 34682: INI text in metres.

    Scan.PixelWidth and PixelHeight are the pixel's, HFW and VFW of the beam (HorFieldsize and VerFieldsize of the scan) the
    field's. Image.ResolutionX and ResolutionY are the picture's without its data bar.

    Args:
        tif: the open file.
        holder: the page with the tag.
        page: the page that is measured.
    """
    found = []
    for code in FEI:
        if not (text := tag_text(tif, holder, code)):
            continue
        ini = sections(text)
        columns, rows = (whole_number(_value(ini, "Image", f"Resolution{axis}")) for axis in "XY")
        width, height = (_metres(ini, "Scan", f"Pixel{side}") for side in ("Width", "Height"))
        if width is not None:
            found.append(Statement(width, f"FEI tag {code} (Scan.PixelWidth)", height, columns))
        for section, across, down in _fei_fields(ini, is_pixel_known=width is not None):
            field_um, height_um = _metres(ini, section, across), _metres(ini, section, down)
            if field_um is not None:
                edges = field_um / (columns or page.imagewidth), height_um / rows if height_um and rows else None
                found.append(Statement(edges[0], f"FEI tag {code} ({section}.{across})", edges[1], columns))
    return found


def _fei_fields(ini: Sections, is_pixel_known: bool) -> list[tuple[str, str, str]]:
    """Section and keys of the field's width and height. A microscope with two beams lists both: the one in use counts."""
    fields = [("Scan", "HorFieldsize", "VerFieldsize")]
    used = _value(ini, "Beam", "Beam").lower()
    beams = [beam for beam in _FEI_BEAMS if _metres(ini, beam, "HFW") is not None]
    if used in [beam.lower() for beam in beams]:
        beams = [beam for beam in beams if beam.lower() == used]
    elif is_pixel_known and len(beams) > 1:
        beams = []
    return fields + [(beam, "HFW", "VFW") for beam in beams]


def olympus(tif: tifffile.TiffFile, holder: Any, page: Any) -> list[Statement]:
    """Olympus SIS: `PixelSizeX` and `PixelSizeY` in metres in the INI text of tag 33471, or the structure of tag 33560.

    Args:
        tif: the open file.
        holder: the page with the tag.
        page: the page that is measured.
    """
    found = []
    text = tag_text(tif, holder, OLYMPUS_INI)
    edges = [_ini_metres(text, f"PixelSize{axis}") for axis in "XY"]
    if edges[0] is not None:
        found.append(Statement(edges[0], f"Olympus tag {OLYMPUS_INI} (PixelSizeX)", edges[1]))
    structure = holder.tags.valueof(OLYMPUS)
    if isinstance(structure, dict) and (width := structure.get("pixelsizex")):
        height = float(structure.get("pixelsizey") or 0) * 1e6
        found.append(Statement(float(width) * 1e6, f"Olympus tag {OLYMPUS}", height or None))
    return found


def tescan(tif: tifffile.TiffFile, holder: Any, page: Any) -> list[Statement]:
    """TESCAN, tag 50431: blocks of a thumbnail and of INI text with `PixelSizeX` and `PixelSizeY` in metres.

    Args:
        tif: the open file.
        holder: the page with the tag.
        page: the page that is measured.
    """
    return tescan_statements(tag_text(tif, holder, TESCAN), f"TESCAN tag {TESCAN}")


def tescan_statements(text: str, where: str) -> list[Statement]:
    """What a TESCAN header states.

    Args:
        text: its text.
        where: what reports call it.
    """
    width, height = (_ini_metres(text, f"PixelSize{axis}") for axis in "XY")
    return [] if width is None else [Statement(width, f"{where} (PixelSizeX)", height)]


def _ini_metres(text: str, key: str) -> float | None:
    """A length in metres after a key anywhere in a text, in micrometres. Other bytes may stand before the key."""
    found = re.search(rf"(?<![A-Za-z]){key}{_INI_NUMBER}", text, re.IGNORECASE)
    return None if found is None or (value := number(found[1])) is None or value[0] <= 0 else value[0] * 1e6


def _value(ini: Sections, section: str, key: str) -> str:
    return ini.get(section.lower(), {}).get(key.lower(), "")


def _metres(ini: Sections, section: str, key: str) -> float | None:
    """A length in metres, in micrometres."""
    found = length(_value(ini, section, key), "m")
    return None if found is None else found.um


def tag_text(tif: tifffile.TiffFile, holder: Any, code: int) -> str:
    """The text of a tag; empty where the page has none.

    Args:
        tif: the open file.
        holder: the page with the tag.
        code: number of the tag.
    """
    tag = holder.tags.get(code)
    if tag is None or tag.dtype not in (1, 2, 6, 7):
        return ""
    size = min(int(tag.count), MOST_BYTES)
    tif.filehandle.seek(tag.valueoffset)
    return decoded(tif.filehandle.read(size))
