"""Area fractions of the phases in a label image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def phase_counts(labels: NDArray[np.uint8], phases: int) -> NDArray[np.int64]:
    """Number of pixels of each phase.

    Args:
        labels: phase indices, uint8 of any shape.
        phases: number of phases; other values are not counted.

    Returns:
        Counts, int64 (phases,).
    """
    return np.bincount(labels.ravel(), minlength=phases)[:phases]


def phase_fractions(labels: NDArray[np.uint8], phases: int) -> NDArray[np.float64]:
    """Area fraction of each phase in a label image.

    Args:
        labels: phase indices, uint8 of any shape.
        phases: number of phases.

    Returns:
        Fractions 0-1, float64 (phases,).
    """
    return np.asarray(phase_counts(labels, phases) / labels.size)
