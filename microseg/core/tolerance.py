"""How far two computations of one engine's labels may differ, by the engine's precision.

float32: what another order of summation explains. FP16, INT8: what the export's gate allows every phase, so that a rare
one (a crack phase of 0.3 %) is guarded too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Precision = Literal["fp32", "fp16", "int8"]

# Share of labels; points of a phase's fraction; the same relative to the phase's mean fraction.
_LIMITS: dict[Precision, tuple[float, float, float]] = {
    "fp32": (2e-4, 0.01, np.inf),
    "fp16": (2e-3, 0.1, 0.02),
    "int8": (1e-2, 0.3, 0.05),
}
# Below this a phase that hardly occurs would fail by a few pixels.
_LEAST_POINTS = 0.01


@dataclass(frozen=True)
class Difference:
    """Labels compared with what they should be, over all pixels given.

    labels: share of pixels that differ, 0-1. points: difference of every phase's area fraction in percentage points.
    """

    labels: float
    points: tuple[float, ...]


def difference(found: Sequence[NDArray[np.uint8]], expected: Sequence[NDArray[np.uint8]], phases: int) -> Difference:
    """Compare label images pairwise (each uint8, any shape), pooled over all of them."""
    pixels = sum(labels.size for labels in expected)
    wrong = sum(int((a != b).sum()) for a, b in zip(found, expected, strict=True))
    return Difference(
        wrong / pixels,
        tuple(100 * abs(a - b) for a, b in zip(_fractions(found, phases), _fractions(expected, phases), strict=True)),
    )


def loosest(*precisions: Precision) -> Precision:
    """The one that allows most: two engines are compared by the limits of the rougher one."""
    return max(precisions, key=list(_LIMITS).index)


def label_limit(precision: Precision) -> float:
    """Largest share of labels that may differ, 0-1."""
    return _LIMITS[precision][0]


def point_limits(precision: Precision, means: Sequence[float]) -> list[float]:
    """Largest difference of every phase's fraction in percentage points, by the phases' mean fractions (0-1)."""
    _, points, share = _LIMITS[precision]
    return [max(_LEAST_POINTS, min(points, 100 * share * mean if mean else 0.0)) for mean in means]


def _fractions(images: Sequence[NDArray[np.uint8]], phases: int) -> list[float]:
    counts = np.sum([np.bincount(labels.ravel(), minlength=phases)[:phases] for labels in images], axis=0)
    return [float(count) / sum(labels.size for labels in images) for count in counts]
