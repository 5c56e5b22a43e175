"""Which page and which channel of a file is the micrograph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tifffile

from microseg.core.errors import FieldError
from microseg.core.notices import Notice

# NewSubfileType (TIFF 6.0): bit 0 marks a smaller version of another page, bit 2 a transparency mask.
_NO_PICTURE = 0b101
# A page of at most this share of the largest one is its thumbnail, unless it is marked otherwise.
_THUMBNAIL = 1 / 4
_LISTED = 6


@dataclass(frozen=True)
class Selection:
    """What the user picks of a file that holds several pictures; None leaves it to what the file says.

    Attributes:
        page: number of the page, from 1.
        channel: number of the channel, from 1.
    """

    page: int | None = None
    channel: int | None = None


@dataclass(frozen=True)
class ChosenPage:
    """A page of a TIFF file.

    Attributes:
        page: the page, or the header that pages without one of their own share.
        skipped: pages without a header that lie before it.
        notices: what the user should know.
    """

    page: Any
    skipped: int = 0
    notices: tuple[Notice, ...] = ()


def choose_page(path: Path, tif: tifffile.TiffFile, wanted: int | None) -> ChosenPage:
    """The page that is the micrograph: the one asked for, else the only one that is neither reduced nor a thumbnail.

    Args:
        path: the file.
        tif: the open file.
        wanted: number of the page, from 1; None for what the file says.

    Raises:
        FieldError: there is no such page, or several pages may be the micrograph.
    """
    pages: list[Any] = list(tif.pages) if len(tif.pages) > 1 else [tif.pages.first]
    stacked = _stacked(tif) if len(pages) == 1 else 1
    number = max(len(pages), stacked)
    if wanted is not None and not 1 <= wanted <= number:
        raise FieldError(
            f"{path}: has {number} {'page' if number == 1 else 'pages'}, and page {wanted} is asked for. Remedy: another "
            "--page."
        )
    if number == 1:
        return ChosenPage(pages[0])
    if stacked > 1:
        if wanted is None:
            raise _several(path, [f"{stacked} pages, each {_size(pages[0])}"])
        return ChosenPage(pages[0], wanted - 1, (Notice("page", f"page {wanted} of {stacked} is measured"),))
    if wanted is not None:
        return ChosenPage(pages[wanted - 1], 0, (Notice("page", f"page {wanted} of {number} is measured"),))
    left = [index for index, page in enumerate(pages) if not int(page.subfiletype or 0) & _NO_PICTURE]
    largest = max((_pixels(pages[index]) for index in left), default=0)
    pictures = [index for index in left if _pixels(pages[index]) > _THUMBNAIL * largest]
    if len(pictures) != 1:
        raise _several(path, [f"page {index + 1}: {_size(page)}" for index, page in enumerate(pages)])
    (index,) = pictures
    why = "the others are marked as reduced" if len(left) == 1 else "the others are smaller versions or thumbnails"
    return ChosenPage(pages[index], 0, (Notice("page", f"page {index + 1} of {number} is measured: {why}"),))


def refuse_channel(path: Path, channels: int, wanted: int) -> FieldError:
    """The error for a channel that a picture does not have.

    Args:
        path: the file.
        channels: number of its channels.
        wanted: number of the channel asked for, from 1.
    """
    return FieldError(
        f"{path}: has {channels} {'channel' if channels == 1 else 'channels'}, and channel {wanted} is asked for. "
        "Remedy: another --channel."
    )


def _stacked(tif: tifffile.TiffFile) -> int:
    """Pages of an ImageJ stack that follow one another without headers of their own; 1 for other files."""
    return int((tif.imagej_metadata or {}).get("images", 1)) if tif.is_imagej else 1


def _several(path: Path, found: Sequence[str]) -> FieldError:
    listed = ", ".join(found[:_LISTED]) + (f" and {len(found) - _LISTED} more" if found[_LISTED:] else "")
    return FieldError(
        f"{path}: holds several pictures ({listed}), and nothing says which is the micrograph. Remedy: --page N, or `page: N` "
        "in domain.yaml."
    )


def _pixels(page: Any) -> int:
    return int(page.imagewidth) * int(page.imagelength)


def _size(page: Any) -> str:
    return f"{page.imagewidth} x {page.imagelength} px"
