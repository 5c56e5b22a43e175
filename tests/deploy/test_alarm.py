"""What a report says where the engine holds an alarm."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from html import escape
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microseg.core.alarm.calibrate import HOME, CalibrationPart, calibrated
from microseg.core.alarm.corruptions import KINDS, corrupted
from microseg.core.alarm.measures import FieldProbe
from microseg.core.alarm.schema import Alarm
from microseg.core.schemas.validation import read_validation, write_validation
from microseg.deploy.measurement.evidence import NOT_JUDGED, NOT_VALIDATED
from microseg.deploy.report.table import read_rows
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.validate import ValidateOptions, validate
from microseg.runtime import open_engine, read_manifest
from tests.chain import microseg
from tests.deploy.conftest import micrograph
from tests.engines import rewrite_manifest, write_threshold_engine

Wafer = Callable[..., Path]


def _alarm(engine_path: Path) -> Alarm:
    """The alarm of micrographs like the wafer's."""
    parts = []
    with open_engine(engine_path, threads=1) as engine:
        for number in range(12):
            image = micrograph(88, 120, number)
            pictures = [(HOME, image)]
            for kind in ("noise", "inversion", "brightness", "defocus"):
                pictures.append((kind, corrupted(image, image, kind, KINDS[kind][-1], number).image))
            true = None
            for kind, picture in pictures:
                found = engine.run(picture[None, None], features=True)
                probe = FieldProbe(2, 2)
                assert found.features is not None
                probe.add(picture, found.labels[0], found.votes[0], found.features[0])
                fraction = np.array([1 - found.labels.mean(), found.labels.mean()])
                true = fraction if true is None else true
                measures = probe.measures()
                assert measures is not None
                parts.append(CalibrationPart(f"f{number}", kind, measures, fraction - true))
    alarm = calibrated(parts, "bright")
    assert alarm is not None
    return alarm


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An engine without an alarm and the same with one."""
    folder = tmp_path_factory.mktemp("alarm")
    plain = write_threshold_engine(folder / "plain.onnx")
    return plain, rewrite_manifest(plain, folder / "alarmed.onnx", alarm=_alarm(plain))


def test_fields_at_home_are_known_and_others_are_told(wafer: Wafer, engines: tuple[Path, Path]) -> None:
    folder = wafer(4, (88, 120))
    bright = corrupted(micrograph(88, 120, 50), micrograph(88, 120, 50), "brightness", 60.0, 1).image
    (folder / "other").mkdir()
    Image.fromarray(bright).save(folder / "other" / "bright.png")
    summary = segment(SegmentOptions(folder, engines[1])).summary
    rows = {row["field"]: row for row in read_rows(folder.parent / "wafer_dir-report" / "fields.csv")}
    assert {row["alarm"] for name, row in rows.items() if name.startswith("field")} == {"known"}
    other = rows["other/bright.png"]
    assert other["alarm"] in ("doubtful", "foreign")
    assert float(other["predicted_error"]) > max(
        float(row["predicted_error"]) for name, row in rows.items() if name != "other/bright.png"
    )
    assert "brighter" in other["notices"]
    sections = summary["sections"]
    assert sections["wafer_dir"]["alarm"]["level"] == "known"
    assert sections["wafer_dir"]["alarm"]["fields"] == {"known": 4, "doubtful": 0, "foreign": 0}
    assert sections["other"]["alarm"]["level"] == other["alarm"]
    assert "brighter" in sections["other"]["alarm"]["causes"]
    assert [notice["kind"] for notice in summary["field_notices"]].count("alarm") == 1
    page = (folder.parent / "wafer_dir-report" / "report.html").read_text(encoding="utf-8")
    assert "Alarm:" in page and summary["alarm"]["cure"] in page


def test_an_engine_without_an_alarm_asks_for_no_features_and_says_nothing(
    wafer: Wafer, engines: tuple[Path, Path]
) -> None:
    folder = wafer(1, (88, 120))
    summary = segment(SegmentOptions(folder, engines[0])).summary
    assert summary["alarm"] is None
    assert [section["alarm"] for section in summary["sections"].values()] == [None]
    (row,) = read_rows(folder.parent / "wafer_dir-report" / "fields.csv")
    assert (row["alarm"], row["predicted_error"]) == ("", "")


def test_fields_of_another_domain_than_the_calibration_are_not_judged(wafer: Wafer, engines: tuple[Path, Path]) -> None:
    summary = segment(SegmentOptions(wafer(1, (88, 120)), engines[1], domain="dark")).summary
    assert summary["alarm"] is None


def test_masks_and_counts_are_those_without_an_alarm_and_a_resumed_report_keeps_the_verdict(
    wafer: Wafer, engines: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = wafer(2, (88, 120))
    outs = [tmp_path / name for name in ("plain", "alarmed")]
    for engine, out in zip(engines, outs, strict=True):
        segment(SegmentOptions(folder, engine, out=out))
    masks = [[path.read_bytes() for path in sorted((out / "masks").rglob("*.png"))] for out in outs]
    assert masks[0] == masks[1]
    first = json.loads((outs[1] / "summary.json").read_text(encoding="utf-8"))["alarm"]
    assert segment(SegmentOptions(folder, engines[1], out=outs[1])).summary["alarm"] == first


def test_a_validation_keeps_what_the_alarm_measures_and_reports_compare(
    wafer: Wafer, engines: tuple[Path, Path], tmp_path: Path
) -> None:
    engine = Path(shutil.copy(engines[1], tmp_path / "bagged.onnx"))
    labelled = tmp_path / "steel"
    for kind in ("images", "masks"):
        (labelled / kind).mkdir(parents=True)
    counts = ["field,phase,points_on_phase,points"]
    for index in range(6):
        image = micrograph(88, 120, 60 + index)
        Image.fromarray(image).save(labelled / "images" / f"f{index}.png")
        Image.fromarray((image > 110).astype(np.uint8)).save(labelled / "masks" / f"f{index}.png")
        counts.append(f"f{index},bainite,{round(400 * float((image > 110).mean()))},400")
    (labelled / "domain.yaml").write_text("phases:\n- {name: ferrite, value: 0}\n- {name: bainite, value: 1}\n")
    (tmp_path / "counts.csv").write_text("\n".join(counts))
    path, found = validate(ValidateOptions(engine, labelled))
    alarm = read_manifest(engine).alarm
    assert alarm is not None and found.alarm_sha256 == alarm.sha256
    by_counts = validate(ValidateOptions(engine, labelled, tmp_path / "counts.csv", tmp_path / "c.json"))[1]
    assert [field.alarm for field in by_counts.fields] == [field.alarm for field in found.fields]
    # The report measures the same fields alike.
    summary = segment(SegmentOptions(labelled / "images", engine, tmp_path / "same")).summary
    for field in found.fields:
        record = json.loads((tmp_path / "same" / "records" / f"{field.name}.json").read_text(encoding="utf-8"))
        assert field.alarm is not None and record["field"]["alarm"] == field.alarm.model_dump()
    lot = wafer(4, (88, 120))
    (lot / "noisy").mkdir()
    for index in range(3):
        image = micrograph(88, 120, 70 + index)
        Image.fromarray(corrupted(image, image, "noise", 40.0, index).image).save(lot / "noisy" / f"{index}.png")
    summary = segment(SegmentOptions(lot, engine, tmp_path / "report")).summary
    home, noisy = (summary["sections"][name]["phases"]["bainite"]["reported"] for name in ("wafer_dir", "noisy"))
    assert home["evidence"] == "validated" and noisy["evidence"] == "none"
    assert any("outside the range of its fields" in reason for reason in noisy["reasons"])
    # A validation of an earlier version holds no measures: the claim stays, and the report says so.
    bare = [field.model_copy(update={"alarm": None}) for field in found.fields]
    write_validation(path, read_validation(path).model_copy(update={"fields": bare, "alarm_sha256": None}))
    noisy = segment(SegmentOptions(lot, engine, tmp_path / "report")).summary["sections"]["noisy"]
    reported = noisy["phases"]["bainite"]["reported"]
    assert any("the validation holds no measures of the alarm" in reason for reason in reported["reasons"])
    assert reported["evidence"] == "validated" or "range" in reported["reasons"][0]


def test_page_and_terminal_state_the_alarm_of_each_section_and_where_there_is_none(
    wafer: Wafer, engines: tuple[Path, Path]
) -> None:
    folder = wafer(4, (88, 120))
    own = micrograph(88, 120, 50)
    (folder / "other").mkdir()
    for number in (1, 2):
        picture = corrupted(own, own, "brightness", 60.0, number).image[:: (-1) ** number]
        Image.fromarray(picture).save(folder / "other" / f"bright{number}.png")
    report = folder.parent / "wafer_dir-report"
    told = microseg("segment", folder, "--engine", engines[1], "--sections", "^(field|other)")
    assert told.status == 0, told.err
    sections = json.loads((report / "summary.json").read_text(encoding="utf-8"))["sections"]
    levels = {name: section["alarm"]["level"] for name, section in sections.items()}
    assert len(levels) == 2 and set(levels.values()) > {"known"}
    page = (report / "report.html").read_text(encoding="utf-8")
    for name, section in sections.items():
        assert page.count(f"<p>Alarm: {escape(section['alarm']['text'])}</p>") == 1, name
    assert all(
        any(level in line for line in told.out.partition("Sections")[2].splitlines()) for level in levels.values()
    )
    plain = microseg("segment", folder, "--engine", engines[0], "--out", folder.parent / "plain")
    assert f"alarm: {NOT_JUDGED}" in plain.out
    assert NOT_JUDGED in (folder.parent / "plain" / "report.html").read_text(encoding="utf-8")
    reasons = json.loads((folder.parent / "plain" / "summary.json").read_text(encoding="utf-8"))["phases"]
    assert all(NOT_VALIDATED in phase["reported"]["reasons"] for phase in reasons.values())
    assert plain.out.count(NOT_VALIDATED) == 1, "the terminal says it once"
