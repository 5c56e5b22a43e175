"""The folds of a run or an engine as a committee: what they say of fields and of regions of large ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from microseg.core.images.exclusion import NOT_MEASURED
from microseg.core.labelling.choice import LabelledFeatures
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.preparation.resampling import nearest_indices
from microseg.core.schemas.bag import Fingerprint, PhaseInfo, TrainingField
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange

# A person labels fields of up to four million pixels as a whole, as scanning electron microscopes write them; of larger ones
# a region of at most this side.
WHOLE_FIELD_PX, REGION_SIDE_PX = 4 << 20, 1024
# Of a region that is mostly padding, little can be labelled.
_LEAST_MEASURED = 0.5


@dataclass(frozen=True)
class Opinion:
    """What the folds say of a picture.

    Attributes:
        labels: the bag's phase indices, uint8 (h, w).
        votes: those of each fold, uint8 (F, h, w).
        features: bottleneck features of each fold, float32 (F, D).
    """

    labels: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    features: NDArray[np.float32]

    @property
    def disagrees(self) -> NDArray[np.bool_]:
        """Where the folds do not all agree, bool (h, w)."""
        return np.asarray((self.votes[1:] != self.votes[0]).any(axis=0))


Ask = Callable[[NDArray[np.uint8]], Opinion]
"""The opinion on a picture on the network's grid, uint8 (h, w)."""


@dataclass(frozen=True)
class Committee:
    """A run or an engine.

    Attributes:
        name: its path, for messages.
        phases: its phases.
        entry: the domain that fields are prepared as.
        grid: its pixel grid.
        halo_px: pixels of the grid around a region that its labels depend on.
        folds: number of networks, or of heads.
        trained: pixel sizes that it was trained on; None: unknown.
        fields: the labelled fields that it was trained on.
        fingerprints: features of labelled fields, of each fold; empty where there are none.
        ask: gives the folds' opinion.
    """

    name: str
    phases: Sequence[PhaseInfo]
    entry: DomainEntry
    grid: Grid
    halo_px: int
    folds: int
    trained: PixelSizeRange | None
    fields: Sequence[TrainingField]
    fingerprints: Sequence[Fingerprint]
    ask: Ask


@dataclass(frozen=True)
class Region:
    """A part of a field in native pixels after the crop.

    Attributes:
        top, left, height, width: where it is.
        is_whole: whether it is the whole field.
    """

    top: int
    left: int
    height: int
    width: int
    is_whole: bool

    @property
    def rows(self) -> slice:
        """Its rows."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Its columns."""
        return slice(self.left, self.left + self.width)


def regions_of(shape: tuple[int, int]) -> list[Region]:
    """The field as a whole, or regions of equal size that cover a large one.

    Args:
        shape: native (height, width) after the crop.
    """
    height, width = shape
    if height * width <= WHOLE_FIELD_PX:
        return [Region(0, 0, height, width, is_whole=True)]
    downs, acrosses = (_cuts(side) for side in shape)
    return [
        Region(top, left, bottom - top, right - left, is_whole=False)
        for top, bottom in downs
        for left, right in acrosses
    ]


def _cuts(side: int) -> list[tuple[int, int]]:
    """(first, last) of consecutive parts of about equal length."""
    count = math.ceil(side / REGION_SIDE_PX)
    edges = [round(side * number / count) for number in range(count + 1)]
    return list(pairwise(edges))


@dataclass(frozen=True)
class RegionOpinion:
    """What the folds say of a region, on native pixels.

    Attributes:
        region: the region.
        labels: uint8 (h, w), NOT_MEASURED (255) where nothing is measured.
        disagrees: where the folds do not all agree, bool (h, w); nowhere outside of what is measured.
        features: bottleneck features of each fold, float32 (F, D).
        image: the region on the network's grid, uint8.
    """

    region: Region
    labels: NDArray[np.uint8]
    disagrees: NDArray[np.bool_]
    features: NDArray[np.float32]
    image: NDArray[np.uint8]

    @property
    def disagreement(self) -> float:
        """Share of the measured pixels, 0-1, on which the folds do not all agree."""
        return float(np.count_nonzero(self.disagrees) / np.count_nonzero(self.labels != NOT_MEASURED))


def opinions(
    committee: Committee, prepared: PreparedField, wanted: Sequence[Region] | None = None
) -> Iterator[RegionOpinion]:
    """What a committee says of a field, region by region.

    Args:
        committee: the committee.
        prepared: the open field.
        wanted: the regions; by default those of `regions_of`, without those of which less than half is measured.

    Raises:
        FieldError: the field cannot be read.
    """
    rows_of = nearest_indices(prepared.shape[0], prepared.native_shape[0])
    columns_of = nearest_indices(prepared.shape[1], prepared.native_shape[1])
    for region in regions_of(prepared.native_shape) if wanted is None else wanted:
        outside = np.zeros((region.height, region.width), np.bool_)
        for each in prepared.excluded_rows(region.top, region.top + region.height):
            outside |= each[:, region.columns]
        if wanted is None and outside.mean() > 1 - _LEAST_MEASURED:
            continue
        rows, columns = rows_of[region.rows], columns_of[region.columns]
        top, bottom = _with_halo(rows, committee.halo_px, prepared.shape[0])
        left, right = _with_halo(columns, committee.halo_px, prepared.shape[1])
        window = np.ascontiguousarray(prepared.rows(top, bottom)[:, left:right])
        found = committee.ask(window)
        place = np.ix_(rows - top, columns - left)
        labels = np.where(outside, np.uint8(NOT_MEASURED), found.labels[place])
        own = window[rows[0] - top : rows[-1] + 1 - top, columns[0] - left : columns[-1] + 1 - left]
        yield RegionOpinion(region, labels, found.disagrees[place] & ~outside, found.features, own)


def _with_halo(places: NDArray[np.intp], halo_px: int, side: int) -> tuple[int, int]:
    """First and last row or column of the network's grid that a region needs."""
    return max(0, int(places[0]) - halo_px), min(side, int(places[-1]) + 1 + halo_px)


def known_features(committee: Committee) -> LabelledFeatures | None:
    """The features of the labelled fields; None where there are none: an adapted run keeps those of its unlabelled target."""
    return None if committee.entry.role == "target" else LabelledFeatures.of_fingerprints(committee.fingerprints)
