"""Confusion matrix, IoU and phase fractions. Pixels without label (255) are not counted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED


def confusion_matrix(true: NDArray[np.uint8], predicted: NDArray[np.uint8], phases: int) -> NDArray[np.int64]:
    """Number of pixels by true phase (row) and predicted phase (column).

    Args:
        true: phase indices uint8 of any shape; 255 is left out.
        predicted: phase indices uint8 of the same shape.
        phases: number of phases.

    Returns:
        int64 (phases, phases).

    Raises:
        ValueError: the shapes differ, or a label is no phase.
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
    """Intersection over union of each phase.

    A phase that only the prediction holds has IoU 0 (Everingham et al. 2010, pooled pixels).

    Args:
        confusion: int64 (P, P), as `confusion_matrix` gives it.

    Returns:
        float64 (P,), 0-1; NaN for a phase that neither truth nor prediction holds.
    """
    hit = np.diag(confusion).astype(np.float64)
    union = confusion.sum(0) + confusion.sum(1) - hit
    values = np.full(len(hit), np.nan)
    np.divide(hit, union, out=values, where=union > 0)
    return values


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean IoU over the phases that truth or prediction holds, 0-1; NaN for an empty matrix."""
    values = iou(confusion)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def fractions(confusion: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Area fractions of the phases over the labelled pixels.

    Args:
        confusion: int64 (P, P), as `confusion_matrix` gives it.

    Returns:
        True and predicted fractions, each float64 (P,), 0-1; NaN without labelled pixels.
    """
    total = confusion.sum()
    if total == 0:
        nothing = np.full(len(confusion), np.nan)
        return nothing, nothing.copy()
    return confusion.sum(1) / total, confusion.sum(0) / total
