"""`report.xlsx`: a report's figures as a workbook for spreadsheets. Text is always text there, never a formula or a link."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.errors import MissingExtraError
from microseg.core.plain_text import plain
from microseg.deploy.measurement.evidence import NOT_VALIDATED
from microseg.deploy.measurement.reported import Reported
from microseg.deploy.report.settings_file import WORKBOOK
from microseg.deploy.report.summary import Findings
from microseg.deploy.report.table import looks_like_formula, table_rows

if TYPE_CHECKING:
    from xlsxwriter.format import Format
    from xlsxwriter.workbook import Workbook
    from xlsxwriter.worksheet import Worksheet

# What a sheet of Excel holds: rows with the heading, and characters of a cell.
_MOST_ROWS = 1 << 20
_MOST_CHARACTERS = 32_767
_OPTIONS = {
    "constant_memory": True,
    "strings_to_formulas": False,
    "strings_to_urls": False,
    "strings_to_numbers": False,
}
_WIDTHS = {
    "field": 36,
    "phase": 22,
    "section": 24,
    "reason": 40,
    "notices": 40,
    "sha256": 20,
    "source": 44,
    "text": 120,
}

Cell = str | float | int | None


def wants_workbook(report: Path, asked: bool) -> bool:
    """Whether a report gets a workbook: on request, and where it has one, which would not fit its figures any more.

    Args:
        report: the report's folder.
        asked: whether the user asks for it.

    Raises:
        MissingExtraError: it does, and xlsxwriter is not installed.
    """
    if not asked and not (report / WORKBOOK).exists():
        return False
    try:
        import xlsxwriter  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(WORKBOOK, "xlsx") from error
    return True


def workbook_bytes(findings: Findings) -> bytes:
    """The workbook.

    Args:
        findings: what the report says.

    Returns:
        An XLSX file with the sheets Result, Sections, Budget, Fields and Notices. Fractions are numbers from 0 to 1, shown in
        per cent.
    """
    from xlsxwriter import Workbook

    stream = io.BytesIO()
    with Workbook(stream, _OPTIONS) as book:
        settings = findings.settings
        book.set_properties(
            {
                "title": f"Phase fractions of {plain(settings.input)}",
                "comments": f"microseg {settings.microseg}",
                "created": _day(settings.created),
            }
        )
        sheets = _Sheets(book)
        sheets.add("Result", _RESULT, _result(findings), _first_lines(findings))
        sheets.add("Sections", ("section", "fields", *_RESULT), _sections(findings))
        sheets.add("Budget", _BUDGET, _budget(findings))
        columns, rows = table_rows(
            findings.outcomes, [phase.name for phase in findings.manifest.phases], findings.standing
        )
        sheets.add("Fields", columns, ([row.get(column) for column in columns] for row in rows))
        sheets.add("Notices", ("text",), _notices(findings))
    return stream.getvalue()


_RESULT = ("phase", "fraction", "interval_low", "interval_high", "evidence", "raw")
_BUDGET = ("section", "phase", "source", "standard_uncertainty", "type", "degrees_of_freedom", "share")


class _Sheets:
    """Adds sheets to a workbook: a heading, and rows of text and numbers."""

    def __init__(self, book: Workbook) -> None:
        self._book = book
        self._bold = book.add_format({"bold": True, "bottom": 1})
        self._alarm = book.add_format({"bold": True, "font_color": "#9c2b1c"})
        self._percent = book.add_format({"num_format": "0.00%"})
        self._quoted = book.add_format({"quote_prefix": True})

    def add(
        self, name: str, columns: Sequence[str], rows: Iterable[Sequence[Cell]], first_lines: Sequence[str] = ()
    ) -> None:
        """Add a sheet; `first_lines` stand above its heading."""
        sheet = self._book.add_worksheet(name)
        for index, column in enumerate(columns):
            sheet.set_column(index, index, _WIDTHS.get(column, 14))
        for line, text in enumerate(first_lines):
            self._write(sheet, (line, 0), text, self._alarm)
        head = len(first_lines)
        for index, column in enumerate(columns):
            self._write(sheet, (head, index), column, self._bold)
        sheet.freeze_panes(head + 1, 1)
        line = head
        for row in rows:
            line += 1
            if line >= _MOST_ROWS:
                break
            for index, (column, value) in enumerate(zip(columns, row, strict=True)):
                shown = self._percent if column.startswith(_FRACTIONS) else None
                self._write(sheet, (line, index), value, shown)
        if line > head and len(columns) > 1:
            sheet.autofilter(head, 0, min(line, _MOST_ROWS - 1), len(columns) - 1)

    def _write(self, sheet: Worksheet, place: tuple[int, int], value: Cell, shown: Format | None) -> None:
        if value == "":
            return
        if isinstance(value, str):
            # Edited by hand, such a cell would become a formula without the mark of a quoted text.
            style = self._quoted if looks_like_formula(value) and shown is None else shown
            sheet.write_string(*place, plain(value)[:_MOST_CHARACTERS], style)
        elif value is not None and math.isfinite(value):
            sheet.write_number(*place, value, shown)


_FRACTIONS = ("fraction", "fold_std", "interval", "raw", "standard_uncertainty", "share", "predicted_error")


def _first_lines(findings: Findings) -> list[str]:
    """What stands above the figures where something is not validated."""
    lacking = [
        phase.name
        for phase, reported in zip(findings.manifest.phases, findings.claims.report, strict=True)
        if reported.evidence == "none"
    ]
    if not lacking or not findings.measured:
        return []
    part = "" if len(lacking) == len(findings.manifest.phases) else f" ({', '.join(lacking)})"
    return [f"NOT VALIDATED{part}: the fractions are {NOT_VALIDATED}"]


def _cells(name: str, reported: Reported) -> list[Cell]:
    low, high = reported.interval or (None, None)
    evidence = "not validated" if reported.evidence == "none" else reported.evidence
    return [name, reported.fraction, low, high, evidence, reported.raw]


def _result(findings: Findings) -> list[list[Cell]]:
    named = zip(findings.manifest.phases, findings.claims.report, strict=True)
    return [_cells(phase.name, reported) for phase, reported in named]


def _sections(findings: Findings) -> Iterable[list[Cell]]:
    for name, section in findings.claims.sections.items():
        for phase, reported in zip(findings.manifest.phases, section.phases, strict=True):
            yield [name, section.fields, *_cells(phase.name, reported)]


def _budget(findings: Findings) -> Iterable[list[Cell]]:
    parts = {"": findings.claims.report}
    if len(findings.claims.sections) > 1:
        parts |= {name: section.phases for name, section in findings.claims.sections.items()}
    for section, phases in parts.items():
        for phase, reported in zip(findings.manifest.phases, phases, strict=True):
            for term in reported.budget:
                yield [section, phase.name, term.term, term.value, term.kind, term.degrees, term.share]


def _notices(findings: Findings) -> Iterable[list[Cell]]:
    settings = findings.settings
    yield [
        f"Input {settings.input}, engine {settings.engine} (SHA-256 {settings.engine_sha256}), begun {settings.created}"
    ]
    if findings.audit is not None:
        yield [f"Audit: {findings.audit.fit}"]
    for reason in dict.fromkeys(reason for reported in findings.claims.report for reason in reported.reasons):
        yield [f"Evidence: {reason}"]
    for notice in findings.notices:
        yield [notice]
    for each in findings.field_notices:
        yield [f"{each.kind}, {each.count} fields ({', '.join(each.fields)}): {each.text}"]


def _day(text: str) -> datetime:
    """The day of the first run, which two equal runs have in common; today would differ."""
    return datetime.combine(date.fromisoformat(text[:10]), datetime.min.time())
