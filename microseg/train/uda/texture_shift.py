"""Whether the phases of a target look different from those of the source, whatever their fractions are."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

# Octaves of grey detail, as standard deviations of Gaussians, px; the first is what is finer than them.
_BANDS_PX = ((0.0, 0.7), (0.7, 1.4), (1.4, 2.8), (2.8, 5.6), (5.6, 11.2))
# Pixels beside a boundary belong to neither phase's texture; fewer than this tell nothing of one.
_EDGE_PX, _LEAST_PIXELS = 5, 500
# Spreads over source fields below these (grey values, natural logarithms, skewness) are rounding, not uniformity.
_LEAST_SPREAD_GREY, _LEAST_SPREAD = 0.5, 0.02
# Source fields that spread can be told from.
LEAST_FIELDS = 4


def texture(image: NDArray[np.uint8], labels: NDArray[np.uint8], phases: int) -> NDArray[np.float64]:
    """Texture of each phase of a field (h, w), float64 (P, 2 + 2 bands); NaN for a phase that is hardly there.

    Mean grey; log of the standard deviation; then, octave by octave, log of the standard deviation and skewness.
    """
    grey = image.astype(np.float32)
    found = np.full((phases, 2 + 2 * len(_BANDS_PX)), np.nan)
    for phase in range(phases):
        inside = cv2.erode((labels == phase).astype(np.uint8), np.ones((_EDGE_PX, _EDGE_PX), np.uint8)).astype(bool)
        if inside.sum() < _LEAST_PIXELS:
            continue
        values = [float(grey[inside].mean()), _log(grey[inside].std())]
        for fine, coarse in _BANDS_PX:
            detail = (_within(grey, inside, fine) - _within(grey, inside, coarse))[inside].astype(np.float64)
            values += [_log(detail.std()), float(((detail / max(detail.std(), 1e-3)) ** 3).mean())]
        found[phase] = values
    return found


def texture_shift(source: Sequence[NDArray[np.float64]], target: Sequence[NDArray[np.float64]]) -> float:
    """The largest difference of the domains' mean textures, in standard deviations of the source's fields.

    Textures (P, D) of the fields of each domain. Infinite where source fields are too few to tell, or where no phase is
    common to most fields of both.
    """
    ours, theirs = np.array(source), np.array(target)
    if len(ours) < LEAST_FIELDS:
        return float("inf")
    is_known = (np.isfinite(ours).mean(0) > 0.5) & (np.isfinite(theirs).mean(0) > 0.5)
    if not is_known.any():
        return float("inf")
    least = np.full(ours.shape[1:], _LEAST_SPREAD)
    least[:, 0] = _LEAST_SPREAD_GREY
    spread = np.maximum(np.nanstd(ours[:, is_known], axis=0, ddof=1), least[is_known])
    difference = np.nanmean(theirs[:, is_known], axis=0) - np.nanmean(ours[:, is_known], axis=0)
    return float(np.abs(difference / spread).max())


def _within(grey: NDArray[np.float32], inside: NDArray[np.bool_], sigma_px: float) -> NDArray[np.float32]:
    """Grey values blurred among the pixels `inside` alone, so that the neighbouring phase does not shine in."""
    if not sigma_px:
        return grey
    weight = inside.astype(np.float32)
    total = cv2.GaussianBlur(grey * weight, (0, 0), sigma_px)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma_px), 1e-6), np.float32)


def _log(deviation: float) -> float:
    return float(np.log(max(float(deviation), 1e-3)))
