"""Labelled fields that trained nothing, as the statistics read them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class ValidationSample:
    """What is known of m labelled fields that trained nothing.

    Attributes:
        true: true fraction of each phase in each field, float64 (m, P), 0-1.
        found: fraction that the engine found, over the same pixels, float64 (m, P), 0-1.
        groups: for each field what it shares with others: a specimen, a spot. Groups are taken for independent.
        points: points of the manual count that the true fractions are from, float64 (m,); infinite for a field with a mask.
        at_home: the networks learned from fields of the same domain, as in a cross-validation.
    """

    true: NDArray[np.float64]
    found: NDArray[np.float64]
    groups: tuple[str, ...]
    points: NDArray[np.float64]
    at_home: bool = False

    def __len__(self) -> int:
        return len(self.true)


def from_confusions(confusions: NDArray[np.int64], groups: Sequence[str]) -> ValidationSample:
    """The sample of fields with masks.

    Args:
        confusions: pixels by true (row) and found phase (column), int64 (m, P, P), as `confusion_matrix` gives them.
        groups: the group of each field.

    Raises:
        ValueError: no field, another shape, a field without labelled pixels, or as many groups as fields are not given.
    """
    counts = np.asarray(confusions, np.float64)
    if counts.ndim != 3 or counts.shape[1] != counts.shape[2] or len(counts) == 0 or len(counts) != len(groups):
        raise ValueError(f"confusions of shape {counts.shape} and {len(groups)} groups")
    totals = counts.sum((1, 2))
    if not np.all(totals > 0):
        raise ValueError(f"field {int(np.argmin(totals))} has no labelled pixel")
    true, found = counts.sum(2) / totals[:, None], counts.sum(1) / totals[:, None]
    return ValidationSample(true, found, tuple(groups), np.full(len(counts), math.inf))


def from_point_counts(
    on_phase: NDArray[np.float64], points: NDArray[np.float64], found: NDArray[np.float64], groups: Sequence[str]
) -> ValidationSample:
    """The sample of fields whose phases a person counted by points (ASTM E562-19: a point on a boundary counts one half).

    Args:
        on_phase: points on each phase, float64 (m, P); halves are allowed.
        points: points of the grid in each field, float64 (m,).
        found: fraction that the engine found in each field, float64 (m, P).
        groups: the group of each field.

    Raises:
        ValueError: shapes that do not fit, or counts that do not add up to the points.
    """
    counts, grid = np.asarray(on_phase, np.float64), np.asarray(points, np.float64)
    fractions = np.asarray(found, np.float64)
    if counts.ndim != 2 or counts.shape != fractions.shape or not 0 < len(counts) == len(grid) == len(groups):
        raise ValueError(
            f"counts of shape {counts.shape}, found fractions of shape {fractions.shape}, {len(grid)} grids, "
            f"{len(groups)} groups"
        )
    if np.any(counts < 0) or np.any(grid <= 0) or not np.allclose(counts.sum(1), grid):
        raise ValueError("the points on the phases do not add up to the points of the grid")
    return ValidationSample(counts / grid[:, None], fractions, tuple(groups), grid)


def joined(samples: Sequence[ValidationSample]) -> ValidationSample:
    """Several samples as one, for example fields with masks and fields with point counts."""
    return ValidationSample(
        np.concatenate([sample.true for sample in samples]),
        np.concatenate([sample.found for sample in samples]),
        tuple(group for sample in samples for group in sample.groups),
        np.concatenate([sample.points for sample in samples]),
        all(sample.at_home for sample in samples),
    )


def count_covariance(true: NDArray[np.float64], points: float) -> NDArray[np.float64]:
    """Covariance of the fractions of one manual count, as independent (multinomial) draws.

    Points of a regular grid vary less than independent ones (Hilliard and Cahn 1961): this is an upper limit. Agresti and Coull
    (1998) add two points on the phase and two off it, so that counts of none and of all have a variance too.

    Args:
        true: counted fraction of each phase, float64 (P,).
        points: points of the count; infinite for a mask.

    Returns:
        float64 (P, P); its rows add up to 0.
    """
    if math.isinf(points):
        return np.zeros((len(true), len(true)))
    phases = len(true)
    share = (true * points + 4 / phases) / (points + 4)
    return np.asarray((np.diag(share) - np.outer(share, share)) / (points + 4))
