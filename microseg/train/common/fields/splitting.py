"""What a fold holds out: groups of fields, fields of one group, or blocks of each field where a domain has few."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.folds import assign_folds
from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import InputError
from microseg.core.schemas.run import Block
from microseg.train.common.recipe import Split

# Blocks of one field: quarters hold three quarters of its labels for each fold to learn from.
MOST_BLOCKS = 4
# Pixels at a border with another block are not scored: a fold learned what is beyond it. Part of the block's smaller side,
# and at most this many pixels.
_GAP_SHARE, _MOST_GAP_PX = 8, 64
_SAME_SPECIMEN = (
    "all fields are of the group {group}: folds hold out fields of a specimen that they learn from. This flatters the scores. "
    "Fields of a second specimen show what a new one gets"
)
_SAME_FIELD = (
    "{count}: folds hold out blocks of fields that they learn the rest of. This flatters the scores. A second labelled field "
    "shows what a new one gets"
)


@dataclass(frozen=True)
class SplitPlan:
    """How a domain is split into folds.

    split: What a fold holds out.
    folds: Number of folds.
    notices: What the user should know about the scores.
    """

    split: Split
    folds: int
    notices: tuple[str, ...] = ()


def planned_split(groups: Sequence[str], folds: int) -> SplitPlan:
    """The best split that a domain allows: by group, else by field, else by blocks of its only field.

    Args:
        groups: The group of each field.
        folds: Folds that are wanted, at least 2.

    Returns:
        The split, with as many folds as there can be, up to `folds`.
    """
    known = len(set(groups))
    if known >= folds:
        return SplitPlan("groups", folds)
    if known >= 2:
        return SplitPlan("groups", known, (f"the fields are of {known} groups: {known} folds, not {folds}",))
    return (
        SplitPlan("fields", min(folds, len(groups)))
        if len(groups) > 1
        else SplitPlan("blocks", min(folds, MOST_BLOCKS))
    )


def split_notices(split: Split, groups: Sequence[str]) -> tuple[str, ...]:
    """What the user should know about scores of such folds."""
    if split == "blocks":
        return (
            _SAME_FIELD.format(count="one labelled field" if len(groups) == 1 else f"{len(groups)} labelled fields"),
        )
    if split == "fields" and len(set(groups)) == 1:
        return (_SAME_SPECIMEN.format(group=repr(groups[0])),)
    if split == "fields" and len(set(groups)) < len(groups):
        return ("folds hold out fields of specimens that they learn from. This flatters the scores",)
    return ()


def held_out_by(split: Split, groups: Sequence[str], folds: int) -> list[int]:
    """The fold that holds each field out; -1 for all of them where folds hold out blocks.

    Args:
        split: What a fold holds out.
        groups: The group of each field.
        folds: Number of folds.

    Raises:
        InputError: Fewer groups, or fields, than folds.
    """
    match split:
        case "groups":
            return assign_folds(groups, folds)
        case "fields":
            if len(groups) < folds:
                raise InputError(
                    f"{len(groups)} field{'s' * (len(groups) != 1)} cannot be split into {folds} folds. Remedy: split=blocks, "
                    "or more labelled fields."
                )
            return assign_folds([str(index) for index in range(len(groups))], folds)
        case "blocks":
            return [-1] * len(groups)


def blocks_of(labels: NDArray[np.uint8], sha256: str, folds: int) -> list[Block]:
    """Cut a field into one block for each fold, so that each holds labels of every phase, and the others do too.

    Several cuts are tried: halves of halves and strips, by labelled pixels and with rare phases weighing as much as common
    ones. The cut is taken in which the fewest phases are missing in a block or outside of it, and of these the one whose
    poorest block has the largest share of a phase.

    Args:
        labels: Phase indices uint8 (h, w), 255 where unlabelled.
        sha256: Of the image file.
        folds: Number of blocks.

    Returns:
        Blocks that cover the field.

    Raises:
        InputError: The field has fewer pixels than `folds`.
    """
    if labels.size < folds or max(labels.shape) < folds:
        raise InputError(
            f"a field of {labels.shape[1]} x {labels.shape[0]} px cannot be cut into {folds} blocks. Remedy: larger fields."
        )
    counts = np.bincount(labels.ravel(), minlength=256)
    phases = [value for value in np.flatnonzero(counts).tolist() if value != UNLABELLED]
    known = (labels != UNLABELLED).astype(np.float64)
    weights = np.zeros(256)
    weights[phases] = 1 / counts[phases]
    candidates = (
        list(_divided(mass, (slice(0, labels.shape[0]), slice(0, labels.shape[1])), folds, axis))
        for mass, axis in itertools.product((known, weights[labels]), (None, 0, 1))
    )
    best = min(candidates, key=lambda regions: _badness(labels, regions, phases, counts))
    return [
        Block(
            sha256=sha256, fold=fold, top_px=rows.start, left_px=columns.start,
            height_px=rows.stop - rows.start, width_px=columns.stop - columns.start,
        )
        for fold, (rows, columns) in enumerate(best)
    ]  # fmt: skip


def region_of(block: Block) -> tuple[slice, slice]:
    """Rows and columns of a block."""
    return (
        slice(block.top_px, block.top_px + block.height_px),
        slice(block.left_px, block.left_px + block.width_px),
    )


def learned_labels(labels: NDArray[np.uint8], block: Block) -> NDArray[np.uint8]:
    """The labels uint8 (h, w) that the fold of a block learns: all but those of the block."""
    learned = labels.copy()
    learned[region_of(block)] = UNLABELLED
    return learned


def scored_labels(labels: NDArray[np.uint8], block: Block) -> NDArray[np.uint8]:
    """The labels uint8 (h, w) that the fold of a block is scored on.

    These are the block's, without a strip beside other blocks. The strip stays where a phase occurs nowhere else in the block.
    """
    scored = np.full_like(labels, UNLABELLED)
    region, inner = region_of(block), _inner(region_of(block), labels.shape)
    if set(np.unique(labels[inner])) | {UNLABELLED} != set(np.unique(labels[region])) | {UNLABELLED}:
        inner = region
    scored[inner] = labels[inner]
    return scored


_Region = tuple[slice, slice]


def _inner(region: _Region, shape: tuple[int, ...]) -> _Region:
    """A region without the strip beside other blocks."""
    gap = min(_MOST_GAP_PX, min(part.stop - part.start for part in region) // _GAP_SHARE)
    rows, columns = (
        slice(part.start + gap * (part.start > 0), part.stop - gap * (part.stop < side))
        for part, side in zip(region, shape, strict=True)
    )
    return rows, columns


def _divided(mass: NDArray[np.float64], region: _Region, parts: int, axis: int | None) -> Iterator[_Region]:
    """Cut a region into `parts` of about the same mass: across `axis`, or across its longer side."""
    if parts == 1:
        yield region
        return
    across = axis if axis is not None else int(_length(region[1]) > _length(region[0]))
    first = parts // 2
    if _length(region[across]) < parts:
        across = 1 - across
    along = mass[region].sum(1 - across).cumsum()
    place = int(np.searchsorted(along, along[-1] * first / parts)) + 1
    middle = region[across].start + min(max(place, first), _length(region[across]) - (parts - first))
    for part, count in (
        (slice(region[across].start, middle), first),
        (slice(middle, region[across].stop), parts - first),
    ):
        yield from _divided(mass, (part, region[1]) if across == 0 else (region[0], part), count, axis)


def _length(part: slice) -> int:
    return int(part.stop - part.start)


def _badness(
    labels: NDArray[np.uint8], regions: Sequence[_Region], phases: Sequence[int], counts: NDArray[np.int64]
) -> tuple[int, int, float]:
    """Phases that a fold cannot learn, phases that it is not scored on, and less the smallest share of a phase in a block."""
    found = np.array([np.bincount(labels[region].ravel(), minlength=256)[phases] for region in regions])
    total = counts[phases]
    return int((found == total).sum()), int((found == 0).sum()), -float((found / total).min(initial=1.0))
