"""Transparent pixels: an alpha channel says where a picture ends, and what it hides is no material."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.images.exclusion import Exclusion

TRANSPARENT = "transparent"


def is_transparent(alpha: NDArray[Any]) -> NDArray[np.bool_]:
    """Where an alpha channel is below its largest value. A partly transparent pixel shows a mixture, not the material.

    Args:
        alpha: opacity of each pixel: integers up to the largest of their type, floats up to 1 (PNG specification, TIFF 6.0
            section 18).

    Returns:
        bool, the shape of `alpha`.
    """
    opaque = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "iu" else 1
    # A NaN is not opaque either.
    return np.asarray(~(alpha >= opaque))


def transparent_pixels(alpha: NDArray[Any]) -> tuple[Exclusion, ...]:
    """The exclusion of an alpha channel (h, w) that is held in memory; none where it is opaque everywhere."""
    outside = is_transparent(alpha)
    return (Exclusion.of(TRANSPARENT, outside),) if outside.any() else ()
