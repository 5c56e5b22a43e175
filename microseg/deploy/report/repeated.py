"""Fields that show one place: they are named, and counted once. ASTM E562 asks for fields that do not overlap."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from microseg.deploy.report.records import FieldRecord

# Positions of a stage are good to some per cent of a field; fields that merely touch do not overlap.
LEAST_SHARE = 0.05
# Shifts of the same pixels are equal. So many marks at one shift are no chance.
_VOTES = 4


def repeated_fields(records: Sequence[FieldRecord], sections: Mapping[str, str]) -> dict[str, str]:
    """Fields that show again what a field before them shows, with the reason, by their names.

    The same file, a region of the same pixels, or, within a section, positions of the stage at which fields overlap.

    Args:
        records: the measured fields, in their order.
        sections: the section of each, by its name.
    """
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for record in records:
        known = first.setdefault(record.sha256, record.name)
        if known != record.name:
            found[record.name] = f"same file as {known}"
    places = _places(records, sections)
    pixels = _shared_pixels([record for record in records if record.marks and record.name not in found])
    kept: list[FieldRecord] = []
    for record in records:
        if record.name in found:
            continue
        for other in kept:
            share = pixels.get((other.name, record.name), 0.0)
            how = "the same pixels"
            if share < LEAST_SHARE and record.name in places and other.name in places:
                share, how = _overlap(other, record, sections), "positions of the stage"
            if share >= LEAST_SHARE:
                found[record.name] = f"overlaps {other.name} by {100 * share:.0f} %, {how}"
                break
        else:
            kept.append(record)
    return found


def _places(records: Sequence[FieldRecord], sections: Mapping[str, str]) -> set[str]:
    """Fields whose position tells them apart: not those of a section that states one position for three fields or more."""
    by_section = defaultdict(list)
    for record in records:
        if record.stage_um is not None and record.pixel_size_um is not None:
            by_section[sections.get(record.name, "")].append(record)
    return {
        record.name
        for each in by_section.values()
        if len(each) < 3 or len({record.stage_um for record in each}) > 1
        for record in each
    }


def _overlap(one: FieldRecord, other: FieldRecord, sections: Mapping[str, str]) -> float:
    """Share of the smaller field that both show, 0-1, by the positions of the stage; 0 in different sections."""
    if sections.get(one.name) != sections.get(other.name) or one.stage_um is None or other.stage_um is None:
        return 0.0
    sizes = [_size_um(record) for record in (one, other)]
    shared = 1.0
    for axis in (0, 1):
        # Positions are of the centres.
        apart = abs(one.stage_um[axis] - other.stage_um[axis])
        shared *= max(0.0, min(sizes[0][axis], sizes[1][axis], sum(size[axis] for size in sizes) / 2 - apart))
    return shared / min(width * height for width, height in sizes)


def _size_um(record: FieldRecord) -> tuple[float, float]:
    edge = record.pixel_size_um or 0.0
    return record.width_px * edge, record.height_px * (record.pixel_height_um or edge)


def _shared_pixels(records: Sequence[FieldRecord]) -> dict[tuple[str, str], float]:
    """Share of the smaller field, 0-1, that pairs of fields have in the same pixels, by both names, the earlier first."""
    if len(records) < 2:
        return {}
    from microseg.deploy.report.region_marks import marks_of

    holders: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for index, record in enumerate(records):
        for mark in marks_of(record.marks):
            holders[int(mark["hash"])].append((index, int(mark["top"]), int(mark["left"])))
    shifts: dict[tuple[int, int], Counter[tuple[int, int]]] = defaultdict(Counter)
    for places in holders.values():
        # What many fields hold is no place of its own, such as a text that is burnt in.
        if 2 <= len(places) <= 8:
            for number, (one, top, left) in enumerate(places):
                for other, down, right in places[number + 1 :]:
                    if one != other:
                        shifts[one, other][down - top, right - left] += 1
    found = {}
    for (one, other), votes in shifts.items():
        (down, right), count = votes.most_common(1)[0]
        if count >= _VOTES:
            found[records[one].name, records[other].name] = _shared(records[one], records[other], down, right)
    return found


def _shared(one: FieldRecord, other: FieldRecord, down: int, right: int) -> float:
    """Share of the smaller field, 0-1, where the second one's pixels are those of the first, shifted."""
    height = min(one.measured_height_px, other.measured_height_px - down) - max(0, -down)
    width = min(one.measured_width_px, other.measured_width_px - right) - max(0, -right)
    areas = [each.measured_height_px * each.measured_width_px for each in (one, other)]
    return max(0, height) * max(0, width) / min(areas)
