"""Labels that networks doubt: regions where all folds that did not learn from a field agree against its label.

Confident learning (Northcutt, Jiang and Chuang, JAIR 2021) finds label errors by predictions out of sample that are confident
of another class. Here the regions count: people draw borders a few pixels beside where networks see them, and that is no error.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED

# Pixels count where every fold is at least this sure of the phase that they agree on.
SURE = 0.8
# A region holds a disc of this radius, in pixels of the network's grid, and of this part of the mean chord of the finer of its
# two phases: what is thinner is a border, and borders of large grains are drawn less exactly.
LEAST_RADIUS_PX, _PART_OF_CHORD = 3, 1 / 16
# A band beside a region of the phase that the folds say is a border that was drawn elsewhere: as much of its outline runs along
# that region, and its area is as many times that of the largest disc in it.
_BESIDE, _LONG = 0.3, 4.0


@dataclass(frozen=True)
class DoubtfulRegion:
    """A region of one label in which the folds agree on one other phase, in pixels of the network's grid.

    Attributes:
        label: the phase of the label.
        folds_say: the phase of the folds.
        inside: its pixels, bool (height, width).
        top, left: first row and column.
        confidence: mean over its pixels of the least probability, 0-1, that a fold gives the phase they agree on.
        strength: sum over its pixels of what the folds' mean probability of their phase exceeds that of the label by.
    """

    label: int
    folds_say: int
    inside: NDArray[np.bool_]
    top: int
    left: int
    confidence: float
    strength: float

    @property
    def area_px(self) -> int:
        """Number of its pixels."""
        return int(np.count_nonzero(self.inside))


def doubtful_regions(labels: NDArray[np.uint8], probability: NDArray[np.float32]) -> list[DoubtfulRegion]:
    """Regions where all folds agree against the labels, the strongest first.

    Args:
        labels: phase indices, uint8 (h, w); 255 where nothing is labelled.
        probability: of each fold that did not learn from these labels, float32 (F, P, h, w).

    Returns:
        Regions as wide as a disc of a least radius. Borders that lie a little beside the labels' are none.
    """
    votes = probability.argmax(axis=1).astype(np.uint8)
    said = votes[0]
    least = np.take_along_axis(probability, votes[:, None].astype(np.int64), axis=1)[:, 0].min(axis=0)
    against = (votes == said).all(axis=0) & (said != labels) & (labels != UNLABELLED) & (least >= SURE)
    mean = probability.mean(axis=0)
    found = []
    pairs = np.unique(labels[against].astype(np.int64) * 256 + said[against])
    for label, phase in (divmod(int(pair), 256) for pair in pairs):
        here = against & (labels == label) & (said == phase)
        margin = mean[phase] - mean[label]
        neighbours = (labels == phase) & (said == phase)
        radius = _least_radius(labels == label, said == phase)
        found += [
            DoubtfulRegion(
                label, phase, inside, top, left,
                float(least[place][inside].mean()), float(margin[place][inside].sum()),
            )
            for inside, (top, left), place in _thick_parts(here, neighbours, radius)
        ]  # fmt: skip
    return sorted(found, key=lambda each: -each.strength)


def _least_radius(*structures: NDArray[np.bool_]) -> int:
    """The least radius of a region between two structures, bool (h, w), px: by the least mean chord, along rows or columns."""
    return max(
        LEAST_RADIUS_PX, round(_PART_OF_CHORD * min(_chord(view) for each in structures for view in (each, each.T)))
    )


def _chord(structure: NDArray[np.bool_]) -> float:
    """Mean length of the runs along rows, px."""
    runs = np.count_nonzero(structure[:, 0]) + np.count_nonzero(structure[:, 1:] & ~structure[:, :-1])
    return float(np.count_nonzero(structure) / runs)


def _thick_parts(
    here: NDArray[np.bool_], neighbours: NDArray[np.bool_], radius_px: int
) -> list[tuple[NDArray[np.bool_], tuple[int, int], tuple[slice, slice]]]:
    """Parts of a mask that hold a disc, and are no bands beside `neighbours`: their pixels and their place."""
    side = 2 * radius_px + 1
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    # Without a margin, what touches the border of the image counts as going on beyond it.
    padded = np.pad(here, side).astype(np.uint8)
    opened = cv2.morphologyEx(padded, cv2.MORPH_OPEN, disc)[side:-side, side:-side]
    count, parts, boxes, _ = cv2.connectedComponentsWithStats(opened, connectivity=8)
    found = []
    for number in range(1, count):
        left, top, width, height = (int(value) for value in boxes[number, :4])
        place = np.s_[top : top + height, left : left + width]
        inside = np.asarray(parts[place] == number)
        if not _is_band(inside, top, left, neighbours):
            found.append((inside, (top, left), place))
    return found


def _is_band(inside: NDArray[np.bool_], top: int, left: int, neighbours: NDArray[np.bool_]) -> bool:
    """Whether a region is long and runs along pixels on whose phase labels and folds agree."""
    padded = np.pad(inside, 1).astype(np.uint8)
    radius = float(cv2.distanceTransform(padded, cv2.DIST_L2, 5).max())
    if np.count_nonzero(inside) <= _LONG * np.pi * radius**2:
        return False
    # Two pixels wide: between what both agree on and the region lie pixels of which folds are less sure.
    around = cv2.dilate(np.pad(inside, 3).astype(np.uint8), np.ones((7, 7), np.uint8)).astype(np.bool_)
    height, width = inside.shape
    beside = np.pad(neighbours, 3)[top : top + height + 6, left : left + width + 6]
    rim = around & ~np.pad(inside, 3)
    return bool(np.count_nonzero(rim & beside) >= _BESIDE * np.count_nonzero(rim))
