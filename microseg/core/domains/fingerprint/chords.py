"""Intercept lengths of phases: runs of one label along rows and columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED

# Runs need about ten times the memory of the labels while they are counted.
_BLOCK_PX = 4 << 20


@dataclass(frozen=True)
class Chords:
    """Sums over intercepts, one entry a phase, float64 (P,).

    Attributes:
        number: number of intercepts.
        total: sum of their lengths.
        squares: sum of the squares of their lengths.
    """

    number: NDArray[np.float64]
    total: NDArray[np.float64]
    squares: NDArray[np.float64]

    @classmethod
    def none(cls, phases: int) -> Chords:
        """No intercepts of so many phases."""
        return cls(np.zeros(phases), np.zeros(phases), np.zeros(phases))

    def __add__(self, other: Chords) -> Chords:
        return Chords(self.number + other.number, self.total + other.total, self.squares + other.squares)

    def in_units(self, unit: float) -> Chords:
        """The same intercepts with lengths multiplied by a unit, such as the pixel size."""
        return Chords(self.number, self.total * unit, self.squares * unit**2)

    def mean(self, phase: int) -> float | None:
        """Mean length of a phase's intercepts; None without any."""
        return float(self.total[phase] / self.number[phase]) if self.number[phase] else None

    def std(self, phase: int) -> float | None:
        """Standard deviation of the lengths of a phase's intercepts; None without any."""
        if not self.number[phase]:
            return None
        mean = self.total[phase] / self.number[phase]
        return float(np.sqrt(max(self.squares[phase] / self.number[phase] - mean**2, 0)))


def chords_of(labels: NDArray[np.uint8], phases: int) -> tuple[Chords, Chords]:
    """The intercepts along the rows of a field. Those along its columns are the same of `labels.T`.

    Args:
        labels: uint8 (h, w), 255 where unlabelled.
        phases: number of phases.

    Returns:
        The intercepts that end at other phases, and those that the border or unlabelled pixels cut.
    """
    whole, cut = Chords.none(phases), Chords.none(phases)
    for block in _blocks(labels):
        values, lengths, is_cut = _runs(block)
        whole += _sums(values[~is_cut], lengths[~is_cut], phases)
        cut += _sums(values[is_cut], lengths[is_cut], phases)
    return whole, cut


def _blocks(labels: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    step = max(1, _BLOCK_PX // labels.shape[1])
    for start in range(0, labels.shape[0], step):
        yield np.ascontiguousarray(labels[start : start + step])


def _runs(labels: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.bool_]]:
    """Value, length and whether it is cut, of every run along the rows."""
    starts_here = np.ones(labels.shape, np.bool_)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts_here[:, 1:])
    starts = np.flatnonzero(starts_here)
    ends = np.append(starts[1:], labels.size)
    values = labels.ravel()[starts]
    width = labels.shape[1]
    beside = np.concatenate(([UNLABELLED], values, [UNLABELLED]))
    is_cut = (starts % width == 0) | (ends % width == 0) | (beside[:-2] == UNLABELLED) | (beside[2:] == UNLABELLED)
    return values, ends - starts, is_cut


def _sums(values: NDArray[np.uint8], lengths: NDArray[np.int64], phases: int) -> Chords:
    def sums(weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.bincount(values, weights, UNLABELLED + 1)[:phases].astype(np.float64)

    return Chords(sums(np.ones_like(lengths)), sums(lengths), sums(lengths**2))
