"""Differences between label images of the same pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.evaluation.fractions import phase_counts, phase_fractions


@dataclass(frozen=True)
class LabelDifference:
    """How far label images are from the expected ones, over all pixels compared.

    Attributes:
        labels: share of pixels whose label differs, 0-1.
        points: absolute difference of each phase's area fraction, percentage points, by phase index.
        pixels: number of pixels compared.
    """

    labels: float
    points: tuple[float, ...]
    pixels: int


def compare_labels(
    found: Sequence[NDArray[np.uint8]], expected: Sequence[NDArray[np.uint8]], phases: int
) -> LabelDifference:
    """Compare label images pairwise and pool the result over all of them.

    Args:
        found: label images, each uint8 of any shape; values are phase indices.
        expected: the images to compare with, of the same shapes.
        phases: number of phases.

    Returns:
        The pooled difference.
    """
    pixels = sum(labels.size for labels in expected)
    differing = sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True))
    counts = [sum(phase_counts(image, phases) for image in images) for images in (found, expected)]
    # From whole pixels, so that a difference of one pixel is exactly the limit that one pixel allows.
    points = 100 * np.abs(counts[0] - counts[1]) / pixels
    return LabelDifference(differing / pixels, tuple(points.tolist()), pixels)


def mean_fractions(images: Sequence[NDArray[np.uint8]], phases: int) -> list[float]:
    """Mean over label images of the area fraction of each phase, 0-1, by phase index."""
    return [float(value) for value in np.mean([phase_fractions(labels, phases) for labels in images], axis=0)]
