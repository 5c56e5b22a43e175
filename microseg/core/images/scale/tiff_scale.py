"""Everything that a TIFF file states about the scale of one of its pages."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import tifffile

from microseg.core.images.scale.imagej import imagej
from microseg.core.images.scale.ome import ome
from microseg.core.images.scale.statement import FileScale, Statement
from microseg.core.images.scale.vendor_tags import (
    FEI,
    OLYMPUS,
    OLYMPUS_INI,
    TESCAN,
    ZEISS,
    fei,
    olympus,
    tescan,
    zeiss,
)

_Reader = Callable[[tifffile.TiffFile, Any, Any], list[Statement]]
_VENDORS: tuple[tuple[_Reader, tuple[int, ...]], ...] = (
    (zeiss, (ZEISS,)),
    (fei, FEI),
    (olympus, (OLYMPUS_INI, OLYMPUS)),
    (tescan, (TESCAN,)),
)
# Vendors write their tag to one of the first pages: image, thumbnail, overlay.
_MOST_PAGES = 8


def tiff_scale(tif: tifffile.TiffFile, page: Any) -> FileScale:
    """What the file states about the scale of a page, in the order of trust: vendor, OME-XML, ImageJ.

    XResolution alone is not trusted: often it is the printer's.

    Args:
        tif: the open file.
        page: the page that is measured.
    """
    stated = _vendors(tif, page, page)
    # A damaged page or tag counts as none.
    with contextlib.suppress(Exception):
        if not stated and len(tif.pages) > 1:
            stated = _other_pages(tif, page)
    with contextlib.suppress(Exception):
        stated += ome(tif, page)
    found = FileScale(tuple(stated))
    with contextlib.suppress(Exception):
        found += imagej(tif, page)
    return found


def _vendors(tif: tifffile.TiffFile, holder: Any, page: Any) -> list[Statement]:
    """What the vendors' tags of one page state about the measured one."""
    found: list[Statement] = []
    for read, codes in _VENDORS:
        with contextlib.suppress(Exception):
            if any(code in holder.tags for code in codes):
                found += read(tif, holder, page)
    return found


def _other_pages(tif: tifffile.TiffFile, page: Any) -> list[Statement]:
    """What the first other page with a vendor's tag states, if the measured page is the widest: the picture as taken."""
    others: list[Any] = [tif.pages[index] for index in range(min(len(tif.pages), _MOST_PAGES)) if index != page.index]
    if any(other.imagewidth > page.imagewidth for other in others):
        return []
    return next(filter(None, (_vendors(tif, other, page) for other in others)), [])
