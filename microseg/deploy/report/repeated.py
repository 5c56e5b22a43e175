"""Fields that show one place: they are named, and counted once. ASTM E562 asks for fields that do not overlap."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from microseg.deploy.report.records import FieldRecord

# Positions of a stage are good to some per cent of a field; fields that merely touch do not overlap.
LEAST_SHARE = 0.05
# Shifts of the same pixels are equal. So many marks at one shift are no chance.
_VOTES = 4


class Shown(Protocol):
    """What a measured field shows: a record, or a row of a table."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def stage_um(self) -> tuple[float, float] | None:
        """X and Y of the stage, µm."""
        ...

    @property
    def pixel_size_um(self) -> float | None:
        """Edge of a native pixel along a row, µm."""
        ...

    @property
    def pixel_height_um(self) -> float | None:
        """Edge of a native pixel along a column, µm; None: equal to `pixel_size_um`."""
        ...

    @property
    def width_px(self) -> int:
        """Width, native pixels."""
        ...

    @property
    def height_px(self) -> int:
        """Height, native pixels."""
        ...

    @property
    def measured_width_px(self) -> int:
        """Width of the measured part, native pixels."""
        ...

    @property
    def measured_height_px(self) -> int:
        """Height of the measured part, native pixels."""
        ...


def repeated_fields(records: Sequence[FieldRecord], sections: Mapping[str, str]) -> dict[str, str]:
    """Fields that show again what a field before them shows, with the reason, by their names.

    The same file, a region of the same pixels, or, within a section, positions of the stage at which fields overlap.

    Args:
        records: the measured fields, in their order.
        sections: the section of each, by its name.
    """
    first: dict[str, int] = {}
    same = [
        (index, known)
        for index, record in enumerate(records)
        if (known := first.setdefault(record.sha256, index)) != index
    ]
    placed = [
        index
        for index, record in enumerate(records)
        if record.stage_um is not None and record.pixel_size_um is not None
    ]
    marked = [(index, record.marks) for index, record in enumerate(records) if record.marks]
    return repeated_among(records, Clues(same, placed, lambda record: sections.get(record.name, ""), marked))


@dataclass(frozen=True)
class Clues:
    """What may show that fields show one place.

    Attributes:
        same: number of each field whose file is that of a field before it, and the number of the first one.
        placed: numbers of the fields with a position of the stage and a pixel size.
        section_of: gives the section of a field.
        marks: numbers of the fields that have marks, and these; empty without.
    """

    same: Sequence[tuple[int, int]]
    placed: Sequence[int]
    section_of: Callable[[Any], str]
    marks: Iterable[tuple[int, str]]


def repeated_among(records: Sequence[Shown], clues: Clues) -> dict[str, str]:
    """As `repeated_fields`, of records that need not all be in memory.

    Args:
        records: the measured fields, in their order.
        clues: what may show that fields show one place.
    """
    found = {records[index].name: f"same file as {records[first].name}" for index, first in clues.same}
    again = {index for index, _ in clues.same}
    near = _near_places(records, clues, again)
    pixels = _shared_pixels(records, clues.marks, again)
    for index in sorted(near.keys() | pixels.keys()):
        for other in sorted(near.get(index, set()) | pixels.get(index, {}).keys()):
            if other in again:
                continue
            share, how = pixels.get(index, {}).get(other, 0.0), "the same pixels"
            if share < LEAST_SHARE and other in near.get(index, ()):
                share, how = _overlap(records[other], records[index]), "positions of the stage"
            if share >= LEAST_SHARE:
                again.add(index)
                found[records[index].name] = f"overlaps {records[other].name} by {100 * share:.0f} %, {how}"
                break
    return found


def _near_places(records: Sequence[Shown], clues: Clues, left_out: Collection[int]) -> dict[int, set[int]]:
    """For each field those before it whose positions of the stage are near enough to overlap, in the same section.

    A section that states one position for three fields or more tells none apart.
    """
    by_section: dict[str, list[int]] = defaultdict(list)
    for index in clues.placed:
        by_section[clues.section_of(records[index])].append(index)
    near: dict[int, set[int]] = {}
    for members in by_section.values():
        if len(members) >= 3 and len({records[index].stage_um for index in members}) == 1:
            continue
        members = [index for index in members if index not in left_out]
        # Fields overlap only within the longest side of one.
        side = max((max(_size_um(records[index])) for index in members), default=0.0) or 1.0
        cells: dict[tuple[int, int], list[int]] = defaultdict(list)
        for index in members:
            x, y = records[index].stage_um or (0.0, 0.0)
            column, row = math.floor(x / side), math.floor(y / side)
            around = [
                other
                for right in (-1, 0, 1)
                for down in (-1, 0, 1)
                for other in cells.get((column + right, row + down), ())
            ]
            if around:
                near[index] = set(around)
            cells[column, row].append(index)
    return near


def _overlap(one: Shown, other: Shown) -> float:
    """Share of the smaller field that both show, 0-1, by the positions of the stage."""
    if one.stage_um is None or other.stage_um is None:
        return 0.0
    sizes = [_size_um(record) for record in (one, other)]
    shared = 1.0
    for axis in (0, 1):
        # Positions are of the centres.
        apart = abs(one.stage_um[axis] - other.stage_um[axis])
        shared *= max(0.0, min(sizes[0][axis], sizes[1][axis], sum(size[axis] for size in sizes) / 2 - apart))
    return shared / min(width * height for width, height in sizes)


def _size_um(record: Shown) -> tuple[float, float]:
    edge = record.pixel_size_um or 0.0
    return record.width_px * edge, record.height_px * (record.pixel_height_um or edge)


def _shared_pixels(
    records: Sequence[Shown], marks: Iterable[tuple[int, str]], left_out: Collection[int]
) -> dict[int, dict[int, float]]:
    """For each field those before it that have some of the same pixels, with the share of the smaller field, 0-1."""
    texts = [(index, text) for index, text in marks if index not in left_out]
    if len(texts) < 2:
        return {}
    import numpy as np

    from microseg.deploy.report.region_marks import marks_of

    held = [(index, marks_of(text)) for index, text in texts]
    del texts
    every = np.concatenate([found for _, found in held])
    owners = np.repeat([index for index, _ in held], [len(found) for _, found in held])
    del held
    order = np.argsort(every["hash"], kind="stable")
    _, starts, counts = np.unique(every["hash"][order], return_index=True, return_counts=True)
    shifts: dict[tuple[int, int], Counter[tuple[int, int]]] = defaultdict(Counter)
    # What many fields hold is no place of its own, such as a text that is burnt in.
    for start, count in zip(starts[(counts >= 2) & (counts <= 8)], counts[(counts >= 2) & (counts <= 8)], strict=True):
        same = order[start : start + count]
        places = [(int(owners[at]), int(every["top"][at]), int(every["left"][at])) for at in same]
        for number, (one, top, left) in enumerate(places):
            for other, down, right in places[number + 1 :]:
                if one != other:
                    shifts[one, other][down - top, right - left] += 1
    found: dict[int, dict[int, float]] = defaultdict(dict)
    for (one, other), votes in shifts.items():
        (down, right), count = votes.most_common(1)[0]
        if count >= _VOTES:
            found[other][one] = _shared(records[one], records[other], down, right)
    return dict(found)


def _shared(one: Shown, other: Shown, down: int, right: int) -> float:
    """Share of the smaller field, 0-1, where the second one's pixels are those of the first, shifted."""
    height = min(one.measured_height_px, other.measured_height_px - down) - max(0, -down)
    width = min(one.measured_width_px, other.measured_width_px - right) - max(0, -right)
    areas = [each.measured_height_px * each.measured_width_px for each in (one, other)]
    return max(0, height) * max(0, width) / min(areas)
