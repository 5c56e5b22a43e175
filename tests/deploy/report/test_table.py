"""`fields.csv`: spreadsheets show it as it is meant, and reading gives what was written."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microseg.deploy.report.reader import Report
from microseg.deploy.report.records import FailedField, FieldRecord
from microseg.deploy.report.table import fields_csv, read_rows

FORMULAS = ["=1+1.tif", "+49.tif", "-rf.tif", "@sum.tif", "\tx.tif", "\r=x.tif", "'=x.tif", "''@x.tif"]
ORDINARY = ["a.tif", "'a.tif", "a=b.tif", "Gefüge,1;2.tif", 'q"uote.tif', "new\nline.tif", "a\rb.tif", "1-2.tif"]


def record(name: str) -> FieldRecord:
    return FieldRecord(
        name=name, sha256="0" * 64, width_px=4, height_px=2, measured_width_px=4, measured_height_px=2,
        pixel_size_um=0.5, counts=[2, 6], fold_counts=[[2, 6], [3, 5]], notices=["+ a notice"],
        notice_kinds=["file"], mask=f"masks/{name}.png", overlay=f"overlays/{name}.jpg",
    )  # fmt: skip


def written(folder: Path, names: list[str], decimal_comma: bool = False) -> Path:
    outcomes: list[FieldRecord | FailedField] = [
        *map(record, names),
        FailedField(name="-broken", reason="=cmd|' /C calc'!A0\nRemedy: none"),
    ]
    path = folder / "fields.csv"
    path.write_bytes(fields_csv(outcomes, ["ferrite", "a;b,c"], decimal_comma).encode())
    return path


@pytest.mark.parametrize("decimal_comma", [False, True])
def test_a_spreadsheet_runs_nothing_and_knows_the_characters(tmp_path: Path, decimal_comma: bool) -> None:
    path = written(tmp_path, FORMULAS + ORDINARY, decimal_comma)
    data = path.read_bytes()
    assert data.startswith(b"\xef\xbb\xbf")
    # As a spreadsheet reads it: no sheet of ours takes an apostrophe away.
    rows = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), delimiter=";" if decimal_comma else ","))
    assert {len(row) for row in rows} == {len(rows[0])} and len(rows) == len(FORMULAS + ORDINARY) + 2
    numbers = {"fraction_ferrite", "fold_std_ferrite", "width_px"}
    for row in rows[1:]:
        for head, cell in zip(rows[0], row, strict=True):
            assert head in numbers or not cell.startswith(("=", "+", "-", "@", "\t", "\r")), (head, cell)


@pytest.mark.parametrize("decimal_comma", [False, True])
def test_reading_gives_what_was_written(tmp_path: Path, decimal_comma: bool) -> None:
    path = written(tmp_path, FORMULAS + ORDINARY, decimal_comma)
    rows = list(read_rows(path))
    assert [row["field"] for row in rows] == [*FORMULAS, *ORDINARY, "-broken"]
    assert rows[0]["notices"] == "+ a notice" and rows[0]["mask"] == "masks/=1+1.tif.png"
    assert rows[-1]["reason"] == "=cmd|' /C calc'!A0\nRemedy: none"
    assert rows[0]["fraction_ferrite"] == ("0,25" if decimal_comma else "0.25")
    assert rows[0]["width_px"] == "4"


@pytest.mark.parametrize("decimal_comma", [False, True])
def test_a_data_frame_has_the_same(tmp_path: Path, decimal_comma: bool) -> None:
    pytest.importorskip("pandas")
    written(tmp_path, FORMULAS + ORDINARY, decimal_comma)
    report = Report(tmp_path, Mock())
    table = report.fields
    assert list(table["field"]) == [*FORMULAS, *ORDINARY, "-broken"]
    assert table["fraction_ferrite"].dtype == float and table["fraction_ferrite"][0] == 0.25
    assert table["reason"].dropna().tolist() == ["=cmd|' /C calc'!A0\nRemedy: none"]
    assert report.mask_path("=1+1.tif") == tmp_path / "masks" / "=1+1.tif.png"


@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=5))
def test_any_text_comes_back(names: list[str]) -> None:
    text = fields_csv([FailedField(name=name, reason=name) for name in names], ["p"], False)
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""))
    from microseg.deploy.report.table import read_cell

    assert [read_cell(row["field"]) for row in rows] == names
