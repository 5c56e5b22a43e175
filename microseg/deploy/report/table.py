"""`fields.csv`: one row for each micrograph, for spreadsheets and scripts.

It begins with a byte order mark, by which spreadsheets recognise UTF-8. A text that a spreadsheet would run as a formula begins
with an apostrophe (CWE-1236); `read_cell` takes it away again.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from microseg.deploy.report.records import FailedField, FieldRecord

BYTE_ORDER_MARK = "\ufeff"
TEXT_COLUMNS = (
    "field", "status", "reason", "notices", "mask", "overlay", "sha256", "pixel_size_source", "not_measured",
    "section", "counted", "alarm",
)  # fmt: skip
"""Columns of text. All others hold numbers."""

# What spreadsheets take for the beginning of a formula, also after our own apostrophes, so that reading is exact.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")


@dataclass(frozen=True)
class Standing:
    """Where a measured field belongs.

    Attributes:
        section: its section.
        not_counted: why it does not count; None where it counts.
        evidence: what stands behind each phase of its section, in the engine's order.
    """

    section: str
    not_counted: str | None
    evidence: Sequence[str]


def fields_csv(
    outcomes: Iterable[FieldRecord | FailedField],
    phases: Sequence[str],
    decimal_comma: bool,
    standing: Mapping[str, Standing] = MappingProxyType({}),
) -> str:
    """The content of `fields.csv`: one row per micrograph, failed ones with the reason. Fractions and spreads are 0-1.

    Args:
        outcomes: the result of each field.
        phases: names of the phases.
        decimal_comma: whether numbers have a decimal comma and columns are separated by semicolons.
        standing: section and evidence of each measured field, by its name.
    """
    columns, rows = table_rows(outcomes, phases, standing)
    text = io.StringIO()
    delimiter = ";" if decimal_comma else ","
    table = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    # A carriage return outside of quotes ends a row for many readers.
    quoted = csv.writer(text, delimiter=delimiter, lineterminator="\n", quoting=csv.QUOTE_ALL)
    table.writerow(columns)
    for row in rows:
        cells = [_cell(row.get(column), decimal_comma) for column in columns]
        (quoted if any("\r" in cell for cell in cells) else table).writerow(cells)
    return BYTE_ORDER_MARK + text.getvalue()


def table_rows(
    outcomes: Iterable[FieldRecord | FailedField], phases: Sequence[str], standing: Mapping[str, Standing]
) -> tuple[list[str], Iterator[dict[str, Any]]]:
    """The columns of the table, and its rows by column. A row lacks what it has no value for. Arguments as for `fields_csv`."""
    columns = [
        "field",
        "status",
        "reason",
        *(f"fraction_{name}" for name in phases),
        *(f"fold_std_{name}" for name in phases),
        "width_px",
        "height_px",
        "measured_px",
        "pixel_size_um",
        "area_um2",
        "notices",
        "mask",
        "overlay",
        "sha256",
        "pixel_height_um",
        "pixel_size_source",
        "not_measured_px",
        "not_measured",
        "section",
        "counted",
        *(f"evidence_{name}" for name in phases),
        "predicted_error",
        "alarm",
    ]

    def rows() -> Iterator[dict[str, Any]]:
        for outcome in outcomes:
            row = _failed_row(outcome) if isinstance(outcome, FailedField) else _measured_row(outcome, phases)
            if (place := standing.get(outcome.name)) is not None:
                row |= _standing_row(place, phases)
            yield row

    return columns, rows()


def looks_like_formula(text: str) -> bool:
    """Whether a spreadsheet would run a text as a formula."""
    return _FORMULA.match(text) is not None


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a `fields.csv` by column, texts as they were written. Raises OSError, UnicodeDecodeError or csv.Error."""
    with path.open(encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream, delimiter=separator(path)):
            yield {name: read_cell(cell) if name in TEXT_COLUMNS else cell for name, cell in row.items()}


def separator(path: Path) -> str:
    """What separates the columns of a `fields.csv`: a semicolon where its numbers have a decimal comma. Raises OSError."""
    with path.open(encoding="utf-8-sig") as stream:
        return ";" if stream.readline().startswith("field;") else ","


def read_cell(cell: str) -> str:
    """The text that a cell of a text column stands for."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def _cell(value: Any, decimal_comma: bool) -> str:
    match value:
        case None:
            return ""
        case str():
            return f"'{value}" if _FORMULA.match(value) else value
        case float():
            return repr(value).replace(".", ",") if decimal_comma else repr(value)
        case _:
            return str(value)


def _failed_row(failed: FailedField) -> dict[str, Any]:
    return {"field": failed.name, "status": "failed", "reason": failed.reason}


def _standing_row(standing: Standing, phases: Sequence[str]) -> dict[str, Any]:
    return {
        "section": standing.section,
        "counted": "yes" if standing.not_counted is None else f"no: {standing.not_counted}",
        **{f"evidence_{name}": evidence for name, evidence in zip(phases, standing.evidence, strict=True)},
    }


def _measured_row(record: FieldRecord, phases: Sequence[str]) -> dict[str, Any]:
    return {
        "field": record.name,
        "status": "measured",
        **{f"fraction_{name}": value for name, value in zip(phases, record.fractions_of(phases), strict=True)},
        **{f"fold_std_{name}": value for name, value in zip(phases, record.fold_std, strict=True)},
        "width_px": record.width_px,
        "height_px": record.height_px,
        "measured_px": record.measured_px,
        "pixel_size_um": record.pixel_size_um,
        "area_um2": record.area_um2,
        "notices": "; ".join(record.notices),
        "mask": record.mask,
        "overlay": record.overlay,
        "sha256": record.sha256,
        "pixel_height_um": record.pixel_height_um or record.pixel_size_um,
        "pixel_size_source": record.pixel_size_source,
        "not_measured_px": sum(record.not_measured.values()),
        "predicted_error": None if record.alarm is None else record.alarm.predicted_error,
        "alarm": None if record.alarm is None else record.alarm.level,
        "not_measured": "; ".join(f"{reason}: {count} px" for reason, count in record.not_measured.items() if count),
    }
