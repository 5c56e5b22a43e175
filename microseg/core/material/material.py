"""The part of a micrograph that shows material: what is cut off, and what inside of it is not measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.images.exclusion import Exclusion
from microseg.core.images.micrograph import Micrograph
from microseg.core.material.padding import PADDING, Rows, padding
from microseg.core.notices import Notice
from microseg.core.schemas.preparation import Crop, Preparation


@dataclass(frozen=True)
class Material:
    """What of a micrograph is measured.

    Attributes:
        crop: native pixels that are cut off each side.
        exclusions: pixels inside the crop that are not measured.
        notices: what the user should know.
    """

    crop: Crop
    exclusions: tuple[Exclusion, ...]
    notices: tuple[Notice, ...] = ()


def find_material(micrograph: Micrograph, preparation: Preparation) -> Material:
    """Find what of a micrograph is measured.

    Args:
        micrograph: the open micrograph.
        preparation: the domain's preparation. Its crop leaves a part of the micrograph.

    Raises:
        FieldError: as reading the micrograph does.
    """
    crop = preparation.crop
    micrograph.allow_coloured(preparation.allow_coloured_percent, crop)
    exclusions = micrograph.exclusions
    if not preparation.keep_padding and (outside := _padding(micrograph, crop)) is not None:
        exclusions += (Exclusion(PADDING, outside),)
    return Material(crop, exclusions)


def _padding(micrograph: Micrograph, crop: Crop) -> Rows | None:
    """Padding of the part that the crop leaves: a function that gives whole native rows, bool (n, width)."""
    height = micrograph.height - crop.top_px - crop.bottom_px
    right = micrograph.width - crop.right_px

    def rows(start: int, stop: int) -> NDArray[Any]:
        return micrograph.rows(start + crop.top_px, stop + crop.top_px, crop.left_px, right)

    found = padding(rows, height, right - crop.left_px, is_lossy=micrograph.is_lossy)
    if found is None:
        return None

    def outside(start: int, stop: int) -> NDArray[np.bool_]:
        whole = np.zeros((stop - start, micrograph.width), bool)
        whole[:, crop.left_px : right] = found(start - crop.top_px, stop - crop.top_px)
        return whole

    return outside
