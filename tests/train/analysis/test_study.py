"""A study: rows resume, a failed row does not stop the others, and the table is computed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import yaml

from microseg.core.errors import InputError
from microseg.core.schemas.run import read_record
from microseg.train.analysis import study as module
from microseg.train.analysis.study import load_study
from tests.chain import microseg, write_recipe

STUDIES = Path(__file__).parents[3] / "train" / "studies"


@pytest.fixture
def study(source: Path, unseen: Path, tmp_path: Path) -> Path:
    recipe = str(write_recipe(tmp_path / "tiny.yaml"))
    content = {
        "source": str(source), "targets": {"T1": str(unseen)}, "phase": "lath-bainite", "folds": 2,
        "rows": [
            {"name": "one", "recipe": recipe, "set": ["steps=2"], "published": {"source": 75.8, "T1": 75.7}},
            {"name": "bad", "recipe": recipe, "set": ["encoder.weights=/nowhere/at/all"]},
            {"name": "two", "title": "deeper", "recipe": recipe, "set": ["steps=3"]},
        ],
    }  # fmt: skip
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_rows_are_trained_scored_and_tabled(study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    outcome = microseg("study", study, "--out", out)
    assert outcome.status == 3, "one row failed"
    assert "row bad failed: /nowhere/at/all: does not exist" in outcome.err
    rows = {row["row"]: row for row in csv.DictReader((out / "table.csv").read_text().splitlines())}
    assert list(rows) == ["one", "bad", "two deeper", "Otsu's threshold"]
    assert 0 < float(rows["Otsu's threshold"]["T1 mIoU"]) < 100 and rows["Otsu's threshold"]["T1 RDT"] == "-"
    assert rows["bad"]["T1 RDT"] == "failed"
    assert rows["one"]["source published"] == "75.8"
    assert "±" in rows["one"]["T1 mIoU"]
    figures = json.loads((out / "study.json").read_text())["rows"]["one"]
    expected = figures["T1"]["miou_mean"] / figures["source"]["miou_mean"] - 1
    assert figures["T1"]["rdt"] == pytest.approx(expected)
    assert rows["one"]["T1 RDT"] == f"{100 * expected:+.1f}"
    assert (out / "table.md").read_text().count("|") > 20
    assert (out / "bars.png").stat().st_size > 5000
    page = (out / "study.html").read_text(encoding="utf-8")
    assert (
        rows["one"]["T1 mIoU"] in page
        and "Failed: /nowhere/at/all: does not exist" in page
        and "2 of 3 rows finished" in page
    )

    monkeypatch.setattr(module, "evaluate_run", lambda *_: pytest.fail("scored again"))
    before = (out / "table.csv").read_text()
    assert microseg("study", study, "--out", out).status == 3
    assert (out / "table.csv").read_text() == before


def test_a_table_of_another_program_stays(study: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "table.csv").write_text("mine")
    outcome = microseg("study", study, "--out", tmp_path / "out")
    assert outcome.status == 2 and "table.csv: exists, and no study wrote it. Remedy: another --out" in outcome.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["table.csv"]


def test_rows_as_jobs_of_their_own(study: Path, tmp_path: Path) -> None:
    listed = microseg("study", study, "--list")
    assert [line.split()[:2] for line in listed.out.splitlines()] == [["1", "one"], ["2", "bad"], ["3", "two"]]
    out = tmp_path / "out"
    assert microseg("study", study, "--out", out, "--row", 3).status == 0
    assert microseg("study", study, "--out", out, "--row", "bad").status == 3
    assert (out / "rows" / "two" / "summary.json").is_file()
    assert not (out / "rows" / "one").exists()
    assert not (out / "table.md").exists()
    wrong = microseg("study", study, "--out", out, "--row", "4")
    assert wrong.status == 2
    assert "has no row '4'. Remedy: a number from 1 to 3, or one of one, bad, two." in wrong.err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": [{"name": "a", "recipe": "nickel"}]}, "row a: --recipe nickel: no such recipe"),
        ({"rows": [{"name": "a", "recipe": "demo"}] * 2}, "two rows have the name 'a'"),
        ({"targets": {"source": "x"}}, "a target has the name 'source'"),
        ({"rows": []}, "rows = "),
        ({"etchant": "nital"}, "unknown key 'etchant'"),
    ],
)
def test_a_study_that_cannot_be_read_is_named(study: Path, change: dict[str, object], message: str) -> None:
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | change))
    with pytest.raises(InputError, match=message):
        load_study(study)


def test_an_unknown_phase_fails_its_rows(study: Path, tmp_path: Path) -> None:
    study.write_text(yaml.safe_dump(yaml.safe_load(study.read_text()) | {"phase": "austenite"}))
    outcome = microseg("study", study, "--out", tmp_path / "out")
    assert outcome.status == 3
    assert "has no phase 'austenite'" in outcome.err


def test_the_papers_published_figures_are_the_papers() -> None:
    """Goetz et al. 2022, table of the supervised models (T2 after 100 epochs)."""
    study, recipes = load_study(STUDIES / "supervised.yaml")
    assert list(recipes) == [f"S.{k}" for k in range(1, 11)]
    assert study.rows[5].published == {"source": 79.2, "T1": 81.6, "T2": 59.9}
    assert study.rows[9].published == {"source": 79.4, "T1": 82.2, "T2": 61.0}


def test_a_row_that_adapts_starts_from_another_and_is_scored_like_it(study: Path, unseen: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(study.read_text())
    adapt = {"start": "one", "target": str(unseen / "images")}
    short = ["steps=2", "batch=1", "snapshot_every=2"]
    content["rows"] = [
        content["rows"][0],
        {"name": "adapted", "recipe": "uda-statistics", "set": short, "adapt": adapt},
        {"name": "labels", "recipe": content["rows"][0]["recipe"], "set": ["steps=2"], "source": str(unseen)},
    ]
    study.write_text(yaml.safe_dump(content))
    outcome = microseg("study", study, "--out", tmp_path / "out")
    assert outcome.status == 0, outcome.err
    figures = json.loads((tmp_path / "out" / "study.json").read_text())["rows"]
    assert set(figures["adapted"]) == {"source", "T1"}
    assert figures["labels"]["T1"]["rdt"] is None and figures["adapted"]["T1"]["rdt"] is not None
    adapted = read_record(tmp_path / "out" / "rows" / "adapted").adaptation
    assert adapted is not None and adapted.source_run == str((tmp_path / "out" / "rows" / "one").resolve())


def test_a_row_cannot_start_from_one_below_it(study: Path) -> None:
    content = yaml.safe_load(study.read_text())
    content["rows"][0] |= {"recipe": "uda-auto", "set": [], "adapt": {"start": "two", "target": "t"}}
    study.write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match=r"row one: adapt\.start: no row above it that trains has the name 'two'"):
        load_study(study)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_shipped_study_can_be_read(path: Path) -> None:
    study, recipes = load_study(path)
    assert list(recipes) == [row.name for row in study.rows]
