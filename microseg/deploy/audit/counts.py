"""Point counts of drawn fields: the page's counts.csv or counts.json, or a table by hand; one person's or two people's."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from microseg.core.errors import InputError
from microseg.core.schemas.validation import PointCounts, SpreadTerm
from microseg.core.system.csv_table import by_name_or_stem
from microseg.core.system.files import read_at_most
from microseg.deploy.audit.found import Found, Wanted, listed
from microseg.deploy.report.table import read_cell
from microseg.deploy.validate import read_counts

_MOST_BYTES = 16 << 20
_FORMAT = "microseg-audit-counts"
# Two people who differ more than this, as a fraction, have not counted the same thing.
STRONG_FIELD, STRONG_MEAN = 0.10, 0.05

Answer = int | tuple[int, int]


@dataclass(frozen=True)
class _Count:
    """One person's count.

    Attributes:
        source: its file.
        auditor: who counted; empty where it is not stated.
        fields: the counts by drawn field.
        answers: the points one by one, by field; empty for a table.
    """

    source: Path
    auditor: str
    fields: Mapping[str, PointCounts]
    answers: Mapping[str, Sequence[Answer]]

    @property
    def name(self) -> str:
        """Who counted, and the file."""
        return f"{self.auditor} ({self.source.name})" if self.auditor else self.source.name


def by_counts(paths: Sequence[Path], wanted: Wanted) -> Found:
    """The audited fields by one or two people's counts.

    Args:
        paths: counts.csv or counts.json, of one person each.
        wanted: the drawn fields.

    Returns:
        The fields. Of two people it holds the mean of their counts, and how far they differ.

    Raises:
        InputError: files that cannot be read, that are of another audit or not finished, fields that were not drawn, or two
            people who disagree strongly.
    """
    if len(paths) > 2:
        raise InputError(f"--counts: {len(paths)} files. Remedy: one, or two of different people.")
    counts = [_read(path, wanted) for path in paths]
    for count in counts:
        wanted.require_all(f"--counts {count.source}", count.fields.keys())
    annotators, agreement = (None, None) if len(counts) == 1 else _compared(counts[0], counts[1], wanted)
    fields = []
    for name, record in wanted.records.items():
        both = [count.fields[name] for count in counts]
        found = [count / sum(record.counts) for count in record.counts]
        fields.append(wanted.audited(name, counts=_together(both).model_dump(), found=found))
    auditors = tuple(count.auditor for count in counts if count.auditor)
    return Found("points", tuple(fields), auditors, annotators, agreement)


def _together(counts: Sequence[PointCounts]) -> PointCounts:
    """The mean of two counts of a field, with the points of one: two people at one grid are no more points."""
    first = counts[0]
    if len(counts) == 1:
        return first
    sums = [a / first.points + b / counts[1].points for a, b in zip(first.on_phase, counts[1].on_phase, strict=True)]
    # Counts are whole or half points; the last phase takes what is left.
    halves = [round(first.points * share) for share in sums[:-1]]
    return PointCounts(points=first.points, on_phase=[*(half / 2 for half in halves), first.points - sum(halves) / 2])


def _read(path: Path, wanted: Wanted) -> _Count:
    data = read_at_most(path, _MOST_BYTES, "counts of the drawn fields alone", "--counts")
    if data.lstrip().startswith(b"{"):
        return _from_json(path, data, wanted)
    table = {read_cell(name): counts for name, counts in read_counts(path, wanted.lot.phases).items()}
    identity = _identity(data)
    where = f"--counts {path}"
    if identity["audit"] and identity["audit"] != wanted.draw.audit:
        raise InputError(_other_audit(where))
    fields: dict[str, PointCounts] = {}
    used: dict[str, str] = {}
    for drawn in wanted.draw.fields:
        key = by_name_or_stem(table, drawn.name)
        if key is None:
            continue
        if key in used:
            raise InputError(f"{where}: {key!r} means {used[key]} and {drawn.name}. Remedy: the paths of the fields.")
        used[key] = drawn.name
        if identity["audit"] and table[key].points < drawn.points:
            raise InputError(
                f"{where}: is not finished: {drawn.name} has {table[key].points} of {drawn.points} points. Remedy: count all."
            )
        fields[drawn.name] = table[key]
    for key in table:
        if key not in used:
            wanted.refuse_other(where, _meant(key, wanted))
    return _Count(path, identity["auditor"], fields, {})


def _meant(key: str, wanted: Wanted) -> str:
    """The field of the report that a key means, or the key."""
    return next((each.name for each in wanted.lot.records if by_name_or_stem({key: 0}, each.name)), key)


def _identity(data: bytes) -> dict[str, str]:
    """The columns `audit` and `auditor` of the first row; empty where the table has none."""
    text = data.decode("utf-8-sig", "replace")
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=";" if ";" in text.partition("\n")[0] else ",")
    row = next(iter(rows), {})
    return {key: read_cell((row.get(key) or "").strip())[:100] for key in ("audit", "auditor")}


def _other_audit(where: str) -> str:
    return (
        f"{where}: is of another audit: of another report, or of an earlier draw. Remedy: counts of the page that the last "
        "`microseg audit draw` wrote."
    )


def _from_json(path: Path, data: bytes, wanted: Wanted) -> _Count:
    where = f"--counts {path}"
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: is damaged ({error}). Remedy: save counts.json again.") from error
    if content.get("format") != _FORMAT or content.get("version") != 1 or not isinstance(content.get("fields"), list):
        raise InputError(f"{where}: is no counts.json of an audit. Remedy: save it again from audit.html.")
    if content.get("audit") != wanted.draw.audit:
        raise InputError(_other_audit(where))
    if content.get("phases") != list(wanted.lot.phases):
        raise InputError(f"{where}: is of other phases. Remedy: save counts.json again from audit.html.")
    fields, answers = {}, {}
    for entry in content["fields"]:
        name = entry.get("field") if isinstance(entry, dict) else None
        if name in fields:
            raise InputError(f"{where}: {name!r} is in it twice. Remedy: save counts.json again.")
        if not isinstance(name, str) or name not in wanted.records:
            wanted.refuse_other(where, str(name))
            continue
        points = entry.get("points")
        if not isinstance(points, list) or not points:
            raise InputError(f"{where}: {name} holds no points. Remedy: save counts.json again.")
        if left := sum(point is None for point in points):
            raise InputError(f"{where}: is not finished: {name} has {left} open points. Remedy: count them.")
        drawn = next(field.points for field in wanted.draw.fields if field.name == name)
        if len(points) != drawn:
            raise InputError(
                f"{where}: {name} has {len(points)} points, and its grid {drawn}. Remedy: save counts.json again."
            )
        answers[name] = [_answer(point, len(wanted.lot.phases), f"{where}: {name}") for point in points]
        fields[name] = _counted(answers[name], len(wanted.lot.phases))
    auditor = content.get("auditor")
    return _Count(path, auditor[:100] if isinstance(auditor, str) else "", fields, answers)


def _answer(point: Any, phases: int, where: str) -> Answer:
    def is_phase(value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < phases

    if is_phase(point):
        return int(point)
    if isinstance(point, list) and len(point) == 2 and all(map(is_phase, point)) and point[0] != point[1]:
        return min(point), max(point)
    raise InputError(f"{where}: {str(point)[:40]!r} is no phase. Remedy: save counts.json again.")


def _counted(answers: Sequence[Answer], phases: int) -> PointCounts:
    """Points on each phase: a point that is not sure counts one half for each of two (ASTM E562)."""
    on_phase = [0.0] * phases
    for answer in answers:
        for phase in (answer,) if isinstance(answer, int) else answer:
            on_phase[phase] += 1.0 if isinstance(answer, int) else 0.5
    return PointCounts(points=len(answers), on_phase=on_phase)


def _compared(one: _Count, other: _Count, wanted: Wanted) -> tuple[SpreadTerm, str]:
    """How far two people differ. Raises InputError where they do strongly."""
    names = list(wanted.records)
    phases = range(len(wanted.lot.phases))
    differences = [
        [other.fields[name].on_phase[k] / other.fields[name].points - one.fields[name].on_phase[k] / one.fields[name].points
         for k in phases]
        for name in names
    ]  # fmt: skip
    means = [fmean(row[k] for row in differences) for k in phases]
    worst = max(reversed(phases), key=lambda k: round(abs(means[k]), 9))
    far = [name for name, row in zip(names, differences, strict=True) if max(map(abs, row)) > STRONG_FIELD]
    phase = wanted.lot.phases[worst]
    if far or abs(means[worst]) > STRONG_MEAN:
        fields = f", by more than {100 * STRONG_FIELD:.0f} points on {listed(far)}" if far else ""
        raise InputError(
            f"--counts: {one.name} and {other.name} disagree: {phase} {100 * means[worst]:+.1f} points in the mean{fields}. "
            "Their mean says nothing. Remedy: settle these fields together and count again, or give one count."
        )
    k = len(names)
    # Standard deviation of one person from pairs (ISO 5725-2:2019, 7.4), and of the mean of two.
    std = [math.sqrt(fmean(row[index] ** 2 for row in differences) / 2) / math.sqrt(2) for index in phases]
    largest = max(max(map(abs, row)) for row in differences)
    text = (
        f"two people counted ({one.name}, {other.name}): {phase} differs by {100 * means[worst]:+.1f} points in the mean and "
        f"{100 * largest:.1f} at most{_kappa(one, other)}"
    )
    return SpreadTerm(std=std, degrees_of_freedom=k), text


def _kappa(one: _Count, other: _Count) -> str:
    """Agreement point by point, with Cohen's kappa (1960), where both counts hold the points."""
    if not one.answers or not other.answers:
        return ""
    pairs = [
        pair
        for name in one.answers
        if len(one.answers[name]) == len(other.answers[name])
        for pair in zip(one.answers[name], other.answers[name], strict=True)
    ]
    if not pairs:
        return ""
    same = sum(a == b for a, b in pairs) / len(pairs)
    kinds = {answer for pair in pairs for answer in pair}
    chance = sum(
        sum(a == kind for a, _ in pairs) * sum(b == kind for _, b in pairs) / len(pairs) ** 2 for kind in kinds
    )
    kappa = (same - chance) / (1 - chance) if chance < 1 else 1.0
    return f"; {100 * same:.1f} % of {len(pairs)} points agree, Cohen's kappa {kappa:.2f}"
