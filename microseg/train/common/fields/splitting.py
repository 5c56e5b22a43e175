"""Blocks of fields, for folds that hold out a part of each field."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import InputError
from microseg.core.schemas.run import Block

# Pixels at a border with another block are not scored: a fold learned what is beyond it. Part of the block's smaller side,
# and at most this many pixels.
_GAP_SHARE, _MOST_GAP_PX = 8, 64


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
