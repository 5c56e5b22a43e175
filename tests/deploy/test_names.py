"""Fields of any name, from the folder to masks, table, page and back."""

from __future__ import annotations

import csv
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import microseg
from microseg.deploy.report.names import distinct_path
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.deploy.conftest import micrograph

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not take these names")

NAMES = [
    "b.png", "B.png", "=1+1.png", "+49.png", "-rf.png", "@sum.png", "CON.png", "x" * 250 + ".png", "  lead.png",
    "trail .png", "a,b;c.png", "new\nline.png", "tab\tx.png", "cr\rx.png", "q\"uote'.png", "e\u0301.png", "\u00e9.png",
    "100%41.png", "<b>.png", "[red]x[b].png", "$(reboot).png", "\u202egpj.png", "\U0001f52c.png", "esc\x1b[2J.png",
]  # fmt: skip


def wafer(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for index, name in enumerate(names):
        Image.fromarray(micrograph(40, 50, index)).save(os.fsencode(folder / name), format="PNG")
    return folder


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, tiny_engine: Path) -> Path:
    folder = wafer(tmp_path_factory.mktemp("names") / "in", NAMES)
    done = segment(SegmentOptions(folder, tiny_engine))
    assert done.summary["fields"]["measured"] == len(NAMES)
    return done.report


def rows(report: Path) -> list[dict[str, str]]:
    with (report / "fields.csv").open(encoding="utf-8-sig", newline="") as stream:
        return list(csv.DictReader(stream))


def test_no_mask_collides_on_any_file_system(report: Path) -> None:
    for column in ("mask", "overlay"):
        paths = [row[column] for row in rows(report)]
        assert len({path.casefold() for path in paths}) == len(NAMES)
        assert all((report / path).is_file() for path in paths)
    assert (report / "masks" / "b.png.png").is_file() and (report / "masks" / f"{distinct_path('B.png')}.png").is_file()
    assert len(list((report / "records").iterdir())) == len(NAMES)


def test_each_mask_is_that_of_its_field(report: Path) -> None:
    opened = microseg.read_report(report)
    for row in rows(report):
        name = row["field"].removeprefix("'")
        mask = np.asarray(Image.open(opened.mask_path(name)))
        assert float(row["fraction_bainite"]) == np.mean(mask == 1)
    pytest.importorskip("pandas")
    assert sorted(opened.fields["field"]) == sorted(NAMES)


def test_no_cell_is_a_formula(report: Path) -> None:
    assert not [row["field"] for row in rows(report) if row["field"][:1] in "=+-@\t\r"]


def test_the_page_shows_names_and_obeys_none(report: Path) -> None:
    page = (report / "report.html").read_text(encoding="utf-8")
    for shown in ("&lt;b&gt;.png", "\\u202egpj.png", "esc\\x1b[2J.png", "new\\nline.png", "tab\\tx.png"):
        assert shown in page
    assert "<b>.png" not in page and "\u202e" not in page and "\x1b" not in page


def test_summary_holds_names_as_they_are(tmp_path: Path, tiny_engine: Path) -> None:
    folder = wafer(tmp_path / "in", ["a.png"])
    (folder / "new\nline\u202e.png").write_bytes(b"x")
    summary = segment(SegmentOptions(folder, tiny_engine)).summary
    assert summary["failed"][0]["field"] == "new\nline\u202e.png"
    assert json.loads((tmp_path / "in-report" / "summary.json").read_text(encoding="utf-8")) == summary


def test_a_name_that_becomes_like_another_one_is_moved_and_counts_once(tmp_path: Path, tiny_engine: Path) -> None:
    folder = wafer(tmp_path / "in", ["B.png", "c.png"])
    options = SegmentOptions(folder, tiny_engine)
    first = segment(options)
    assert (first.report / "masks" / "B.png.png").is_file()
    Image.fromarray(micrograph(40, 50, 7)).save(folder / "b.png")
    both = segment(options)
    assert both.summary["run"]["fields_measured"] == 2 and both.summary["run"]["fields_resumed"] == 1
    found = {row["field"]: row["mask"] for row in rows(both.report)}
    assert found == {
        "B.png": f"masks/{distinct_path('B.png')}.png",
        "b.png": "masks/b.png.png",
        "c.png": "masks/c.png.png",
    }
    assert sorted(path.name for path in (both.report / "masks").iterdir()) == sorted(
        Path(mask).name for mask in found.values()
    )
    assert not [notice for notice in both.summary["notices"] if "no longer in the input" in notice]
    (folder / "b.png").unlink()
    alone = segment(options)
    assert alone.summary["run"]["fields_resumed"] == 2, "its distinct place is as good as before"
    assert segment(options).summary["run"]["fields_measured"] == 0


def test_a_decimal_comma_stays_in_a_report_that_goes_on(tmp_path: Path, tiny_engine: Path) -> None:
    folder = wafer(tmp_path / "in", ["a.png"])

    def table(**options: bool) -> list[str]:
        done = segment(SegmentOptions(folder, tiny_engine, **options))  # type: ignore[arg-type]
        return (done.report / "fields.csv").read_text(encoding="utf-8-sig").splitlines()

    comma = table(decimal_comma=True)
    assert comma[0].startswith("field;status;reason;fraction_ferrite;")
    values = dict(zip(comma[0].split(";"), comma[1].split(";"), strict=True))
    assert (
        float(values["fraction_ferrite"].replace(",", ".")) + float(values["fraction_bainite"].replace(",", ".")) == 1
    )
    assert "." not in values["fraction_ferrite"] and values["field"] == "a.png"
    report = microseg.read_report(tmp_path / "in-report")
    assert report.mask_path("a.png").is_file()
    assert table() == comma
    point = table(decimal_comma=False)
    assert point[0].startswith("field,status,") and table() == point
