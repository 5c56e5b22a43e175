"""`report.xlsx`: numbers are numbers, text is text, and it never lags behind the report."""

from __future__ import annotations

import io
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from microseg.core.errors import MissingExtraError
from microseg.deploy.report.records import FailedField
from microseg.deploy.report.workbook import workbook_bytes
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.chain import microseg
from tests.deploy.report.page.made import findings, record

pytest.importorskip("xlsxwriter")
openpyxl = pytest.importorskip("openpyxl")

FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2", "@SUM(A1)", "http://example.org/", "12", "\ttab"]


def _sheets(data: bytes) -> dict[str, list[list[Any]]]:
    book = openpyxl.load_workbook(io.BytesIO(data))
    return {sheet.title: [list(row) for row in sheet.iter_rows()] for sheet in book}


def _values(rows: list[list[Any]]) -> list[list[Any]]:
    return [[cell.value for cell in row] for row in rows]


def test_figures_are_numbers_and_the_word_of_evidence_stands_beside_them() -> None:
    data = workbook_bytes(
        findings([record("a/1.png"), record("b/2.png")], "validated", {"a": "validated", "b": "none"})
    )
    sheets = {name: _values(rows) for name, rows in _sheets(data).items()}
    assert list(sheets) == ["Result", "Sections", "Budget", "Fields", "Notices"]
    assert sheets["Result"] == [
        ["phase", "fraction", "interval_low", "interval_high", "evidence", "raw"],
        ["ferrite", 0.6, pytest.approx(0.58), pytest.approx(0.63), "validated", 0.6],
        ["bainite", 0.4, pytest.approx(0.38), pytest.approx(0.43), "validated", 0.4],
    ]
    assert [row[:2] + row[6:7] for row in sheets["Sections"][1:]] == [
        ["a", 2, "validated"], ["a", 2, "validated"], ["b", 2, "not validated"], ["b", 2, "not validated"],
    ]  # fmt: skip
    assert sheets["Budget"][2] == [None, "ferrite", "correction", 0.006, "B", None, 0.3]
    head, first, _ = sheets["Fields"]
    assert (
        dict(zip(head, first, strict=True)).items()
        >= {"field": "a/1.png", "fraction_bainite": 0.4, "width_px": 10}.items()
    )


def test_what_is_not_validated_is_the_first_line() -> None:
    rows = _values(_sheets(workbook_bytes(findings([record("1.png")])))["Result"])
    assert rows[0][0].startswith("NOT VALIDATED: the fractions are not validated; the sampling interval")
    assert rows[2][4] == "not validated" and rows[2][2] is None


def test_no_text_is_a_formula_a_link_or_a_number() -> None:
    made = findings([record(name) for name in FORMULAS], not_counted={FORMULAS[0]: "=2+2"})
    made = replace(made, outcomes=(*made.outcomes, FailedField(name="=3", reason="\x1b=4" + "x" * 40_000)))
    data = workbook_bytes(made)
    cells = [row[0] for row in _sheets(data)["Fields"][1:]]
    assert [cell.value for cell in cells] == [*FORMULAS, "=3"] and {cell.data_type for cell in cells} == {"s"}
    assert [cell.quotePrefix for cell in cells[:2]] == [True, True]
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheets = [archive.read(name) for name in archive.namelist() if "/worksheets/" in name]
        assert len(sheets) == 5 and not any(b"<f>" in sheet or b"hyperlink" in sheet for sheet in sheets)
        assert not [name for name in archive.namelist() if "external" in name.lower()]


def test_equal_reports_have_equal_workbooks() -> None:
    made = findings([record("1.png"), record("2.png", 50)])
    assert workbook_bytes(made) == workbook_bytes(made)


def test_a_report_that_has_one_gets_it_again(wafer: Callable[..., Path], tiny_engine: Path) -> None:
    folder = wafer(2)
    report = segment(SegmentOptions(folder, tiny_engine)).report
    assert not (report / "report.xlsx").exists()
    segment(SegmentOptions(folder, tiny_engine, xlsx=True))
    assert len(_sheets((report / "report.xlsx").read_bytes())["Fields"]) == 3
    (folder / "field1.png").unlink()
    segment(SegmentOptions(folder, tiny_engine))
    assert len(_sheets((report / "report.xlsx").read_bytes())["Fields"]) == 2


def test_without_the_extra_nothing_is_computed(
    wafer: Callable[..., Path], tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    folder = wafer(1)
    with pytest.raises(MissingExtraError, match=r"pip install 'microseg\[xlsx\]'"):
        segment(SegmentOptions(folder, tiny_engine, xlsx=True))
    assert not (folder.parent / "wafer_dir-report").exists()
    monkeypatch.undo()
    assert microseg("segment", folder, "--engine", tiny_engine, "--xlsx").status == 0
    assert (folder.parent / "wafer_dir-report" / "report.xlsx").is_file()
