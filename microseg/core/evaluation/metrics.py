"""Confusion matrix, IoU and phase fractions; pixels labelled UNLABELLED (255) count nowhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED


def confusion_matrix(true: NDArray[np.uint8], predicted: NDArray[np.uint8], phases: int) -> NDArray[np.int64]:
    """Count pixels by true (row) and predicted (column) phase: int64 (phases, phases).

    `true` and `predicted` are uint8 arrays of one shape; a true label of 255 is left out. Other labels outside
    0 ... phases - 1 raise ValueError.
    """
    if true.shape != predicted.shape:
        raise ValueError(f"shapes differ: {true.shape} and {predicted.shape}")
    known = true != UNLABELLED
    t, p = true[known], predicted[known]
    if t.size and (t.max() >= phases or p.max() >= phases):
        raise ValueError(f"labels up to {max(t.max(), p.max())} for {phases} phases")
    counts = np.bincount(t.astype(np.int64) * phases + p, minlength=phases * phases)
    return counts.reshape(phases, phases).astype(np.int64)


def iou(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Intersection over union per phase, (P,), 0-1; NaN for a phase that neither truth nor prediction holds.

    A phase that is absent from the truth but predicted has IoU 0 (Everingham et al. 2010, pooled pixels).
    """
    hit = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hit
    values = np.full(len(hit), np.nan)
    np.divide(hit, union, out=values, where=union > 0)
    return values


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean IoU over the phases that occur in truth or prediction; NaN for an empty matrix."""
    values = iou(confusion)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def fractions(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(true, predicted) area fractions per phase, each (P,), 0-1, over the labelled pixels; NaN if there are none."""
    total = confusion.sum()
    if total == 0:
        nothing = np.full(len(confusion), np.nan)
        return nothing, nothing.copy()
    return confusion.sum(1) / total, confusion.sum(0) / total
