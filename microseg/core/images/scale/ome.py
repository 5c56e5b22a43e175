"""The scale in the OME-XML of a TIFF file (OME schema 2016-06)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import tifffile

from microseg.core.images.scale.lengths import length
from microseg.core.images.scale.statement import Statement
from microseg.core.images.scale.texts import whole_number

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

# Metadata of some thousand planes. A parser takes a multiple of this while it reads.
_MOST_CHARACTERS = 16 << 20


def ome(tif: tifffile.TiffFile, page: Any) -> list[Statement]:
    """PhysicalSizeX and PhysicalSizeY, by default in µm, of the image that the page belongs to."""
    text = tif.ome_metadata
    if not text or len(text) > _MOST_CHARACTERS:
        return []
    # Imported here: other files need no XML parser. A DTD and its entities are refused: the file is not trusted.
    from defusedxml.ElementTree import fromstring

    images = _named(fromstring(text, forbid_dtd=True), "Image")
    pixels = [element for image in images for element in _named(image, "Pixels")]
    chosen = _pixels_of(pixels, page, tif.filename)
    if chosen is None:
        return []
    width, height = (_edge(chosen, axis) for axis in "XY")
    if width is None:
        return []
    return [Statement(width, "OME-XML (PhysicalSizeX)", height, whole_number(chosen.get("SizeX")))]


def _pixels_of(pixels: list[Element], page: Any, filename: str) -> Element | None:
    """The element of the page: the one whose TiffData names it, else the only one of its size, else the only one."""
    files = {name for element in pixels for block in _named(element, "TiffData") for name in _file_names(block)}
    # A file that was renamed knows only its old name.
    here = filename if filename in files else None
    for element in pixels:
        if _has_page(element, page.index, here):
            return element
    size = (page.imagewidth, page.imagelength)
    fitting = [each for each in pixels if (whole_number(each.get("SizeX")), whole_number(each.get("SizeY"))) == size]
    for found in (fitting, pixels):
        if len({(each.get("PhysicalSizeX"), each.get("PhysicalSizeXUnit")) for each in found}) == 1:
            return found[0]
    return None


def _has_page(element: Element, number: int, filename: str | None) -> bool:
    """Whether a page of this file belongs to an image. `filename`: blocks of other files are left out; None: none are."""
    planes = 1
    for axis in "CZT":
        planes *= whole_number(element.get(f"Size{axis}")) or 1
    for block in _named(element, "TiffData"):
        if filename is not None and any(name != filename for name in _file_names(block)):
            continue
        first = block.get("IFD")
        # A block without a number means the whole file, one with a number a single page.
        count = whole_number(block.get("PlaneCount")) or (planes if first is None else 1)
        if 0 <= number - (whole_number(first) or 0) < min(count, planes):
            return True
    return False


def _file_names(element: Element) -> list[str]:
    """Names of the files in which the planes of a TiffData lie."""
    return [name for each in _named(element, "UUID") if (name := each.get("FileName"))]


def _edge(pixels: Element, axis: str) -> float | None:
    """Edge of a pixel in micrometres."""
    found = length(pixels.get(f"PhysicalSize{axis}", ""), pixels.get(f"PhysicalSize{axis}Unit", "um"))
    return None if found is None else found.um


def _named(element: Element, name: str) -> Iterator[Element]:
    """The children of that name of an element, in any namespace."""
    return (each for each in element if each.tag.rpartition("}")[2] == name)
