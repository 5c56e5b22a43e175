"""The metallographer's default: Otsu's threshold (multi-Otsu for more phases) after a light blur."""

from __future__ import annotations

from itertools import permutations

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.evaluation.metrics import mean_iou

BLUR_PX = 5
# Beyond this multi-Otsu's exhaustive search takes minutes a field.
MAX_PHASES = 5


def otsu_classes(image: NDArray[np.uint8], phases: int) -> NDArray[np.uint8]:
    """Grey classes 0 (dark) ... phases - 1 (bright) of a field uint8 (H, W), as uint8 (H, W).

    Otsu (1979), multi-Otsu (Liao et al. 2001) through scikit-image, after a Gaussian of 5 px. A field with fewer grey
    values than classes is one class.
    """
    from skimage.filters import threshold_multiotsu

    smooth = cv2.GaussianBlur(image, (BLUR_PX, BLUR_PX), 0)
    try:
        thresholds = threshold_multiotsu(  # type: ignore[no-untyped-call]
            smooth, classes=phases, nbins=256 if phases < 4 else 64
        )
    except ValueError:
        return np.zeros(image.shape, np.uint8)
    return np.digitize(smooth, thresholds).astype(np.uint8)


def best_assignment(confusion: NDArray[np.int64]) -> tuple[int, ...]:
    """Which phase each grey class is, chosen for the highest pooled mIoU against the truth: the baseline at its best.

    `confusion` is int64 (P, P): true phase by grey class. Returns the phase of class 0, 1, ...
    """
    phases = len(confusion)
    return max(permutations(range(phases)), key=lambda order: mean_iou(assign(confusion, order)))


def assign(confusion: NDArray[np.int64], order: tuple[int, ...]) -> NDArray[np.int64]:
    """The confusion matrix (P, P) after grey class i is called phase order[i]."""
    out = np.zeros_like(confusion)
    out[:, list(order)] = confusion
    return out
