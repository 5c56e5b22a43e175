"""The table of fields: compact data for the script of the page, and the rows that stand in the page itself.

A page of 10,000 fields holds their figures as JSON, and the script shows the rows in view. Paper, and a browser without
scripts, show the first `PAPER_ROWS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from microseg.core.plain_text import plain, plain_name
from microseg.deploy.report.page.figures import area
from microseg.deploy.report.records import FieldRecord
from microseg.deploy.report.summary import Findings

PAPER_ROWS = 200
# Fractions are sent as whole numbers of this part: the page shows four decimals of it.
_UNIT = 1_000_000
LEVELS = ("known", "doubtful", "foreign")


@dataclass(frozen=True)
class PaperRow:
    """A row that stands in the page.

    Attributes:
        record: the field.
        fractions: its fractions; None for phases that are no material.
        detail: size, pixel size and area.
        why_not: why it does not count; None where it counts.
    """

    record: FieldRecord
    fractions: Sequence[float | None]
    detail: str
    why_not: str | None


def paper_rows(findings: Findings) -> list[PaperRow]:
    """The rows that stand in the page.

    Args:
        findings: what the report says.
    """
    phases = [phase.name for phase in findings.manifest.phases]
    return [
        PaperRow(record, record.fractions_of(phases), detail(record), findings.not_counted.get(record.name))
        for record in findings.measured[:PAPER_ROWS]
    ]


def detail(record: FieldRecord) -> str:
    """Size, pixel size with its source, and area of a field."""
    text = f"{record.measured_width_px} × {record.measured_height_px} px"
    source = record.pixel_size_source
    if not record.pixel_size_um:
        return f"{text} · pixel size: {source}" if source else text
    edges = f"{record.pixel_size_um:.5g}"
    if record.pixel_height_um:
        edges += f" × {record.pixel_height_um:.5g}"
    told = f" ({source})" if source else ""
    return f"{text} · {edges} µm/px{told} · {area(record.area_um2)}"


def table_data(findings: Findings) -> dict[str, Any]:
    """What the script reads: one list for each column, texts that many fields share once.

    Args:
        findings: what the report says.

    Returns:
        `phases` (name and colour), `sections` (names), `texts`, and `rows`: `name` (as shown), `place` (path in the report, 0
        where it is the name), `section` (index), `detail` (index of a text), `notes` (indices of texts, 0 for none), `fraction`
        and `spread` (a list for each phase; millionths, null for none), `plain` and `preview` (whether the files exist, 0 or
        1), `level` (index of `LEVELS`, -1 without an alarm), `error` (millionths or null), `counted` (0, or the index of the
        text that says why not).
    """
    phases = findings.manifest.phases
    names = [phase.name for phase in phases]
    texts = _Texts()
    sections = _Texts(first=None)
    records = findings.measured
    fractions = [record.fractions_of(names) for record in records]
    spreads = [record.fold_std for record in records]
    judged = any(record.alarm is not None for record in records)
    rows: dict[str, Any] = {
        "name": [plain_name(record.name) for record in records],
        "place": [0 if record.place == plain_name(record.name) else record.place for record in records],
        "section": [sections.index(plain_name(findings.sections.get(record.name, ""))) for record in records],
        "detail": [texts.index(detail(record)) for record in records],
        "notes": [[texts.index(plain(each)) for each in record.notices] or 0 for record in records],
        "fraction": [[_whole(each[index]) for each in fractions] for index in range(len(names))],
        "spread": [[_whole(each[index]) for each in spreads] for index in range(len(names))],
        "plain": [int(bool(record.plain)) for record in records],
        "preview": [int(bool(record.preview)) for record in records],
        "counted": [_why_not(record, findings.not_counted, texts) for record in records],
    }
    if judged:
        alarms = [record.alarm for record in records]
        rows["level"] = [-1 if alarm is None else LEVELS.index(alarm.level) for alarm in alarms]
        rows["error"] = [None if alarm is None else _whole(alarm.predicted_error) for alarm in alarms]
    return {
        "phases": [{"name": plain_name(phase.name), "color": phase.color} for phase in phases],
        "sections": sections.found,
        "texts": texts.found,
        "rows": rows,
    }


class _Texts:
    """Texts by number, each once; number 0 is `first`, which stands for nothing."""

    def __init__(self, first: str | None = "") -> None:
        self._numbers: dict[str, int] = {} if first is None else {first: 0}

    def index(self, text: str) -> int:
        return self._numbers.setdefault(text, len(self._numbers))

    @property
    def found(self) -> list[str]:
        return list(self._numbers)


def _why_not(record: FieldRecord, not_counted: Mapping[str, str], texts: _Texts) -> int:
    why = not_counted.get(record.name)
    return 0 if why is None else texts.index(plain(why))


def _whole(value: float | None) -> int | None:
    return None if value is None else round(_UNIT * value)
