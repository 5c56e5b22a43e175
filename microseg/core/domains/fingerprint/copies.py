"""Fields that are copies of each other, or that share a part of one micrograph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.fingerprint.field_source import FieldSource
from microseg.core.domains.fingerprint.points import Points, points_of
from microseg.core.domains.fingerprint.thumbnails import (
    CHANGES,
    correlation_of_parts,
    thumbnail_of,
    unit_rows,
    variants,
)
from microseg.core.schemas.fingerprint import FieldCopy

# Unrelated fields reach 0.2, also periodic and layered ones; pictures that were flipped, scaled, brightened or compressed 0.95.
_COPY = 0.75
# The same for the shared part of an overlap: 0.35 and 0.6 to 0.95.
_OVERLAP = 0.55
# Points count as the same from this correlation of their surroundings, and overlap is tried from so many at one shift.
_SAME_POINT, _VOTES = 0.9, 4
_BIN_PX = 8
# Points of all fields together: their comparison takes the square of it.
_ALL_POINTS, _FEWEST_POINTS = 90_000, 40
_BLOCK_FIELDS, _BLOCK_POINTS = 256, 2048
_MOST_COPIES = 1000


@dataclass(frozen=True)
class Look:
    """What is kept of a field's picture.

    Attributes:
        source: the field.
        shape: (height, width) in px.
        thumbnail: its structure, int8 (64, 64).
        points: its salient points.
    """

    source: FieldSource
    shape: tuple[int, int]
    thumbnail: NDArray[np.int8]
    points: Points

    @classmethod
    def at(cls, source: FieldSource, image: NDArray[np.uint8]) -> Look:
        """The look of a picture, uint8 (h, w)."""
        return cls(source, (image.shape[0], image.shape[1]), thumbnail_of(image), points_of(image))


def copies_among(looks: Sequence[Look]) -> list[FieldCopy]:
    """Pairs of fields that show the same place; across groups first, then the clearest. Of many copies each has one pair.

    Args:
        looks: the fields.
    """
    if len(looks) < 2:
        return []
    same = _copies(looks)
    found = [
        _pair(looks[first], looks[second], "copy", (0, 0), CHANGES[change], score)
        for first, second, change, score in same
    ]
    # Copies of one field need no pair of their own.
    original = {second: first for first, second, _, _ in same}
    found += [
        _pair(looks[first], looks[second], "overlap", shift, CHANGES[0], score)
        for first, second, shift, score in _overlaps(looks)
        if original.get(first, first) != original.get(second, second)
    ]
    return sorted(found, key=lambda each: (not each.is_across, -abs(each.score), each.first, each.second))[
        :_MOST_COPIES
    ]


def _pair(
    first: Look, second: Look, kind: Literal["copy", "overlap"], shift: tuple[int, int], change: str, score: float
) -> FieldCopy:
    one, other = first.source, second.source
    return FieldCopy(
        kind=kind,
        first=one.name,
        second=other.name,
        first_group=one.group,
        second_group=other.group,
        is_across=one.group != other.group or one.is_test != other.is_test,
        change=change,
        shift_px=shift,
        score=score,
    )


def _copies(looks: Sequence[Look]) -> list[tuple[int, int, int, float]]:
    """First and second field, the change, and the correlation, of every field that copies an earlier one."""
    found: dict[int, tuple[int, int, int, float]] = {}
    for start in range(0, len(looks), _BLOCK_FIELDS):
        earlier = unit_rows(_thumbnails(looks[start : start + _BLOCK_FIELDS]))
        for begin in range(start, len(looks), _BLOCK_FIELDS):
            later = _thumbnails(looks[begin : begin + _BLOCK_FIELDS])
            turned = np.stack([np.stack(variants(each)) for each in later], 1)
            scores = np.stack([earlier @ unit_rows(each).T for each in turned])
            change = np.abs(scores).argmax(0)
            best = np.take_along_axis(scores, change[None], 0)[0]
            for i, j in np.argwhere(np.abs(best) >= _COPY).tolist():
                if start + i < begin + j and begin + j not in found:
                    found[begin + j] = (start + i, begin + j, int(change[i, j]), float(np.clip(best[i, j], -1, 1)))
    return list(found.values())


def _thumbnails(looks: Sequence[Look]) -> NDArray[np.float32]:
    return np.stack([look.thumbnail for look in looks]).astype(np.float32)


def _overlaps(looks: Sequence[Look]) -> Iterator[tuple[int, int, tuple[int, int], float]]:
    """First and second field, the shift of the second, and the correlation of what they share."""
    for first, second, shift in _candidates(looks):
        one, other = looks[first], looks[second]
        score = correlation_of_parts(one.thumbnail, other.thumbnail, (one.shape, other.shape), shift)
        if score >= _OVERLAP:
            yield first, second, (round(shift[0]), round(shift[1])), min(score, 1.0)


def _candidates(looks: Sequence[Look]) -> Iterator[tuple[int, int, tuple[float, float]]]:
    """Pairs of fields with several points at one shift, and the shift."""
    number = max(_FEWEST_POINTS, _ALL_POINTS // max(1, len(looks)))
    points = [look.points.first(number) for look in looks]
    field = np.repeat(np.arange(len(looks)), [len(each.places) for each in points])
    places = np.concatenate([each.places for each in points])
    directions = np.concatenate([each.directions for each in points])
    bounds = np.searchsorted(field, np.arange(len(looks) + 1))
    start = 0
    while start < len(looks) and len(field):
        # Whole fields, as many as make a block.
        stop = max(start + 1, int(np.searchsorted(bounds, bounds[start] + _BLOCK_POINTS, side="right")) - 1)
        matches = []
        for begin in range(int(bounds[start]), len(field), _BLOCK_POINTS):
            products = directions[bounds[start] : bounds[stop]] @ directions[begin : begin + _BLOCK_POINTS].T
            place = np.flatnonzero(products.ravel() >= _SAME_POINT)
            row, column = np.divmod(place, products.shape[1])
            matches.append(np.stack([row + bounds[start], column + begin], 1))
        both = np.concatenate(matches)
        both = both[field[both[:, 0]] < field[both[:, 1]]]
        yield from _shifts(both, field, places)
        start = stop


def _shifts(
    matches: NDArray[np.int64], field: NDArray[np.int64], places: NDArray[np.int32]
) -> Iterator[tuple[int, int, tuple[float, float]]]:
    """The shift of each pair of fields on which most matches agree.

    Args:
        matches: (M, 2) numbers of points that look the same, the one of the earlier field first.
        field: the field of each point.
        places: row and column of each point.
    """
    shift = places[matches[:, 0]] - places[matches[:, 1]]
    pair = field[matches[:, 0]] * (int(field[-1]) + 1 if len(field) else 1) + field[matches[:, 1]]
    best: dict[int, tuple[int, NDArray[np.int64]]] = {}
    # Matches of one shift may fall on both sides of a limit between bins: four sets of bins.
    for offset in ((0, 0), (_BIN_PX // 2, 0), (0, _BIN_PX // 2), (_BIN_PX // 2, _BIN_PX // 2)):
        bins = (shift + offset) // _BIN_PX
        keys = np.stack([pair, bins[:, 0], bins[:, 1]], 1)
        order = np.lexsort(keys.T)
        starts = np.flatnonzero(np.any(np.diff(keys[order], axis=0, prepend=-1), axis=1))
        counts = np.diff(np.append(starts, len(order)))
        for begin, count in zip(starts[counts >= _VOTES], counts[counts >= _VOTES], strict=True):
            group = order[begin : begin + count]
            votes = min(len(np.unique(matches[group, side])) for side in (0, 1))
            known = best.get(int(pair[group[0]]))
            if votes >= _VOTES and (known is None or votes > known[0]):
                best[int(pair[group[0]])] = (votes, group)
    for _, group in best.values():
        down, right = np.median(shift[group], axis=0)
        yield int(field[matches[group[0], 0]]), int(field[matches[group[0], 1]]), (float(down), float(right))
