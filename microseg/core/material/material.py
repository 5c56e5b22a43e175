"""The part of a micrograph that shows material: what is cut off, and what inside of it is not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.images.exclusion import Exclusion
from microseg.core.images.micrograph import Micrograph
from microseg.core.material.data_bar import find_bar, looks_like_bar
from microseg.core.material.padding import PADDING, Rows, padding
from microseg.core.notices import Notice
from microseg.core.schemas.preparation import Crop, Preparation

# A text that states a higher bar speaks of another picture.
_MOST_STATED_SHARE = 0.5


@dataclass(frozen=True)
class Material:
    """What of a micrograph is measured.

    Attributes:
        crop: native pixels that are cut off each side, data bars included.
        data_bars: the rows of them that are data bars.
        exclusions: pixels inside the crop that are not measured.
        notices: what the user should know.
    """

    crop: Crop
    data_bars: Crop
    exclusions: tuple[Exclusion, ...]
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True)
class _Bar:
    """A data bar at one edge of the part that the stated crop leaves."""

    rows: int
    is_sure: bool
    how: str
    is_uniform: bool = False


def find_material(micrograph: Micrograph, preparation: Preparation) -> Material:
    """Find what of a micrograph is measured.

    Args:
        micrograph: the open micrograph.
        preparation: the domain's preparation. Its crop leaves a part of the micrograph.

    Raises:
        FieldError: as reading the micrograph does, or more of it is coloured than the preparation allows.
    """
    crop = preparation.crop
    cut = {"top": 0, "bottom": 0}
    notices = []
    for edge in () if preparation.keep_data_bar else ("bottom", "top"):
        if (bar := _data_bar(micrograph, crop, at_top=edge == "top")) is not None:
            notices.append(_told(bar, edge, getattr(crop, f"{edge}_px")))
            cut[edge] = bar.rows if bar.is_sure else 0
    bars = Crop(top_px=cut["top"], bottom_px=cut["bottom"])
    crop = crop.model_copy(update={f"{edge}_px": getattr(crop, f"{edge}_px") + rows for edge, rows in cut.items()})
    micrograph.allow_coloured(preparation.allow_coloured_percent, crop)
    exclusions = micrograph.exclusions
    if not preparation.keep_padding and (outside := _padding(micrograph, crop)) is not None:
        exclusions += (Exclusion(PADDING, outside),)
    return Material(crop, bars, exclusions, tuple(notices))


def _data_bar(micrograph: Micrograph, crop: Crop, *, at_top: bool) -> _Bar | None:
    """The data bar at an edge: as a text states it, else as the picture shows it."""
    height = micrograph.height - crop.top_px - crop.bottom_px
    columns = slice(crop.left_px, micrograph.width - crop.right_px)

    def rows(start: int, stop: int) -> NDArray[Any]:
        return micrograph.raw_rows(start + crop.top_px, stop + crop.top_px)[:, columns]

    stated = None if at_top else micrograph.data_bar
    if stated is not None:
        left = stated.rows - crop.bottom_px
        is_possible = 0 < left <= _MOST_STATED_SHARE * height
        if is_possible and (
            stated.is_sure or looks_like_bar(rows(height - left, height), is_lossy=micrograph.is_lossy)
        ):
            return _Bar(left, True, f"by {stated.source}")
    found = find_bar(rows, height, columns.stop - columns.start, at_top=at_top, is_lossy=micrograph.is_lossy)
    if found is None:
        return None
    return _Bar(found.rows, found.is_sure, "found in the picture (one grey value with text)", found.is_uniform)


def _told(bar: _Bar, edge: str, stated_px: int) -> Notice:
    """The sentence on a data bar, with the crop that would state it."""
    rows = bar.rows + stated_px
    in_file = f"`crop: {{{edge}_px: {rows}}}` in domain.yaml"
    if bar.is_uniform:
        text = f"the {bar.rows} rows at the {edge} hold one grey value, as a data bar or a margin does: they are not measured"
    elif bar.is_sure:
        text = (
            f"the {bar.rows} rows at the {edge} are a data bar, {bar.how}: they are not measured. {in_file} states it"
        )
    else:
        text = (
            f"the {bar.rows} rows at the {edge} may be a data bar, {bar.how}: they are measured. Remedy, if they are one: "
            f"--crop {edge}={rows}, or {in_file}"
        )
    return Notice("data bar", text)


def _padding(micrograph: Micrograph, crop: Crop) -> Rows | None:
    """Padding of the part that the crop leaves: a function that gives whole native rows, bool (n, width)."""
    height = micrograph.height - crop.top_px - crop.bottom_px
    right = micrograph.width - crop.right_px

    def rows(start: int, stop: int, first: int = 0, last: int = right - crop.left_px) -> NDArray[Any]:
        return micrograph.rows(start + crop.top_px, stop + crop.top_px, crop.left_px + first, crop.left_px + last)

    found = padding(rows, height, right - crop.left_px, is_lossy=micrograph.is_lossy)
    if found is None:
        return None

    def outside(start: int, stop: int) -> NDArray[np.bool_]:
        whole = np.zeros((stop - start, micrograph.width), bool)
        whole[:, crop.left_px : right] = found(start - crop.top_px, stop - crop.top_px)
        return whole

    return outside
