"""`segment_folder`, `read_report` and `evaluate_engine`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import microseg
from microseg.core.errors import InputError, MissingExtraError
from microseg.deploy.evaluate import evaluate_engine as evaluate_file
from microseg.deploy.report.summary_file import ReportSummary
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.deploy.conftest import micrograph
from tests.deploy.test_segment import content_of

Wafer = Callable[..., Path]


def test_segment_folder_is_the_command(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    folder = wafer(3)
    (folder / "broken.png").write_bytes(b"broken")
    told: list[float] = []
    report = microseg.segment_folder(
        folder, engine=tiny_engine, out=tmp_path / "api", pixel_size_um=0.5, progress=told.append
    )
    result = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "command", pixel_size_um=0.5))
    assert content_of(tmp_path / "api") == content_of(tmp_path / "command")
    assert report.path == tmp_path / "api" and sum(told) == pytest.approx(4)
    summary = report.summary
    assert isinstance(summary, ReportSummary)
    assert (summary.fields.total, summary.fields.measured, summary.fields.failed) == (4, 3, 1)
    assert summary.failed[0].field == "broken.png" and "Remedy" in summary.failed[0].reason
    assert summary.phases["bainite"].ci95 == result.summary["phases"]["bainite"]["ci95"]
    assert summary.fractions == {name: phase["mean"] for name, phase in result.summary["phases"].items()}
    assert "3 of 4 fields measured" in repr(report)
    default = microseg.segment_folder(str(folder), engine=str(tiny_engine))
    assert default.path == tmp_path / "wafer_dir-report"


def test_the_summary_is_written_as_its_schema_says(wafer: Wafer, tiny_engine: Path) -> None:
    report = microseg.segment_folder(wafer(2), engine=tiny_engine)
    content = json.loads((report.path / "summary.json").read_text(encoding="utf-8"))
    assert report.summary.content() == content
    assert list(content) == list(ReportSummary.model_fields)
    schema = ReportSummary.model_json_schema()
    models = [schema, *schema["$defs"].values()]
    own = [model for model in models if model["title"].startswith(("Report", "Summary", "Fold", "From"))]
    bare = [
        (model["title"], name)
        for model in own
        for name, key in model["properties"].items()
        if not {"description", "$ref"} & set(key)
    ]
    assert not bare


def test_fields_are_a_table(wafer: Wafer, tiny_engine: Path) -> None:
    pytest.importorskip("pandas")
    folder = wafer(2)
    Image.fromarray(micrograph(60, 70, 9)).save(folder / "NA.png")
    (folder / "broken.png").write_bytes(b"")
    table = microseg.segment_folder(folder, engine=tiny_engine).fields
    assert list(table["field"]) == ["NA.png", "broken.png", "field0.png", "field1.png"]
    assert list(table["status"]) == ["measured", "failed", "measured", "measured"]
    assert table["fraction_bainite"].dtype == float and table["fraction_bainite"].isna().sum() == 1
    measured = table[table["status"] == "measured"]
    assert np.allclose(measured["fraction_ferrite"] + measured["fraction_bainite"], 1)


def test_without_pandas_the_extra_is_named(wafer: Wafer, tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = microseg.segment_folder(wafer(1), engine=tiny_engine)
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'microseg\[notebook\]'"):
        _ = report.fields


def test_the_notebook_shows_a_small_table_that_loads_nothing(tmp_path: Path, tiny_engine: Path) -> None:
    folder = tmp_path / "<b>wafer & co"
    folder.mkdir()
    for index in range(2):
        Image.fromarray(micrograph(60, 70, index)).save(folder / f"{index}.png")
    (folder / "<script>.png").write_bytes(b"")
    report = microseg.segment_folder(folder, engine=tiny_engine)
    page = report._repr_html_()
    assert "&lt;b&gt;wafer &amp; co" in page and "&lt;script&gt;.png" in page and "<script>" not in page
    assert "http" not in page and "src=" not in page and len(page) < 5000
    assert f"{100 * (report.summary.phases['bainite'].mean or 0):.2f}" in page


def test_paths_of_masks_and_overlays(wafer: Wafer, tiny_engine: Path) -> None:
    report = microseg.segment_folder(wafer(1), engine=tiny_engine)
    assert report.mask_path("field0.png").is_file() and report.overlay_path("field0.png").is_file()


def test_reports_that_cannot_be_read_say_why(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    report = microseg.segment_folder(wafer(1), engine=tiny_engine).path
    file = report / "summary.json"
    content = json.loads(file.read_text(encoding="utf-8"))

    def with_content(**changes: Any) -> None:
        file.write_text(json.dumps(content | changes), encoding="utf-8")

    assert microseg.read_report(str(report)).summary.fields.total == 1
    with_content(report_version=99, news=1)
    with pytest.raises(
        InputError, match=r"the summary has version 99; this microseg reads up to .*Remedy: pip install --upgrade"
    ):
        microseg.read_report(report)
    with_content(fields={"total": 1})
    with pytest.raises(InputError, match=r"summary\.json: .*damaged.*fields.*Remedy: repeat"):
        microseg.read_report(report)
    file.write_text("[")
    with pytest.raises(InputError, match=r"summary\.json: .*Remedy: repeat"):
        microseg.read_report(report)
    file.unlink()
    with pytest.raises(InputError, match=r"holds no finished report .*Remedy: give the folder"):
        microseg.read_report(report)
    with pytest.raises(InputError, match="holds no finished report"):
        microseg.read_report(tmp_path / "nowhere")


def test_scores_of_an_open_engine_and_of_its_file(tiny_engine: Path, tmp_path: Path) -> None:
    domain = tmp_path / "domain"
    (domain / "images").mkdir(parents=True)
    (domain / "masks").mkdir()
    for index in range(2):
        image = micrograph(60, 70, index)
        Image.fromarray(image).save(domain / "images" / f"{index}.png")
        Image.fromarray((image > 108).astype(np.uint8)).save(domain / "masks" / f"{index}.png")
    (domain / "domain.yaml").write_text("phases: [{name: ferrite, value: 0}, {name: bainite, value: 1}]\n")
    told: list[str] = []
    with microseg.load_engine(tiny_engine) as engine:
        scores = microseg.evaluate_engine(engine, domain, progress=told.append)
        assert engine.predict(domain / "images" / "0.png").error is None, "the engine stays open"
        dark = microseg.evaluate_engine(engine, domain, domain_name="dark")
    assert scores["miou"] > 0.8 > 0.5 > dark["miou"] and told == ["0.png", "1.png"]
    assert microseg.evaluate_engine(str(tiny_engine), str(domain)) == scores == evaluate_file(tiny_engine, domain)
    with pytest.raises(InputError, match="the engine is closed"):
        microseg.evaluate_engine(engine, domain)
