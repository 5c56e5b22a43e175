"""The baseline of a metallographer: Otsu's threshold (multi-Otsu for more phases) after a light blur."""

from __future__ import annotations

from itertools import permutations

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.evaluation.metrics import mean_iou

BLUR_PX = 5
# Grey values of more phases overlap: there is no baseline for them.
MAX_OTSU_PHASES = 5


def otsu_classes(image: NDArray[np.uint8], phases: int) -> NDArray[np.uint8]:
    """Grey classes of a field by Otsu (1979) and multi-Otsu (Liao et al. 2001) after a Gaussian of 5 px.

    Args:
        image: uint8 (H, W).
        phases: number of classes, at least 2.

    Returns:
        uint8 (H, W), 0 (dark) to phases - 1 (bright). A field with fewer grey values than classes is one class.
    """
    smooth = np.asarray(cv2.GaussianBlur(image, (BLUR_PX, BLUR_PX), 0), np.uint8)
    counts = np.bincount(smooth.ravel(), minlength=256)
    if np.count_nonzero(counts) < phases:
        return np.zeros(image.shape, np.uint8)
    return np.digitize(smooth, multi_otsu_thresholds(counts, phases)).astype(np.uint8)


def multi_otsu_thresholds(counts: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """The thresholds between grey classes that maximise the variance between the classes (Liao et al. 2001, eq. 16).

    A dynamic programme finds what Liao et al. search exhaustively; of equal optima the darkest thresholds are taken. It
    stands here for scikit-image, which takes 51 MB of a station (`python -m benchmarks.station` prints the sizes).

    Args:
        counts: histogram, int64 (256,), with at least `classes` grey values.
        classes: number of classes, at least 2.

    Returns:
        The highest grey value of each class but the last, int64 (classes - 1,).
    """
    if np.count_nonzero(counts) == classes:
        return np.flatnonzero(counts)[:-1]
    weight = np.concatenate([[0.0], np.cumsum(counts / counts.sum())])
    moment = np.concatenate([[0.0], np.cumsum(np.arange(256) * counts / counts.sum())])
    # variance[a, b]: what a class of the grey values a ... b - 1 adds.
    mass = weight[None, :] - weight[:, None]
    variance = np.divide((moment[None, :] - moment[:, None]) ** 2, mass, out=np.zeros_like(mass), where=mass > 0)
    variance[np.tril_indices(257)] = -np.inf  # a class holds at least one grey value
    best = variance[:, 256]  # best[a]: of the grey values a ... 255 in the classes that are left
    ends = []
    for _ in range(classes - 1):
        sums = variance + best[None, :]
        ends.append(np.argmax(sums, axis=1))
        best = np.max(sums, axis=1)
    thresholds, begin = [], 0
    for end in reversed(ends):
        begin = int(end[begin])
        thresholds.append(begin - 1)
    return np.array(thresholds)


def best_assignment(confusion: NDArray[np.int64]) -> tuple[int, ...]:
    """The phase of each grey class that gives the highest pooled mIoU: the baseline at its best.

    Args:
        confusion: int64 (P, P), true phase by grey class.

    Returns:
        The phase of class 0, 1, ...
    """
    phases = len(confusion)
    return max(permutations(range(phases)), key=lambda order: mean_iou(assign(confusion, order)))


def assign(confusion: NDArray[np.int64], order: tuple[int, ...]) -> NDArray[np.int64]:
    """The confusion matrix after grey class i is called phase order[i].

    Args:
        confusion: int64 (P, P), true phase by grey class.
        order: the phase of each class.

    Returns:
        int64 (P, P), true phase by predicted phase.
    """
    out = np.zeros_like(confusion)
    out[:, list(order)] = confusion
    return out
