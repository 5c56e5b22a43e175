"""`microseg validate`: masks, point counts, and all that is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.schemas.bag import TrainingField
from microseg.core.schemas.validation import read_validation, validation_beside
from microseg.core.system.files import sha256_of
from microseg.deploy.report.reader import read_report
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.validate import ValidateOptions, read_counts, validate
from tests.chain import microseg
from tests.deploy.conftest import micrograph
from tests.engines import rewrite_manifest

FIELDS = 6


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six fields whose masks call brighter than 110 bainite; the engine's limit is about 108."""
    folder = tmp_path_factory.mktemp("labelled") / "steel"
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for index in range(FIELDS):
        image = micrograph(60, 80, index + 100)
        Image.fromarray(image).save(folder / "images" / f"f{index}.png")
        Image.fromarray((image > 110).astype(np.uint8)).save(folder / "masks" / f"f{index}.png")
    (folder / "domain.yaml").write_text("phases:\n- {name: ferrite, value: 0}\n- {name: bainite, value: 1}\n")
    return folder


@pytest.fixture
def engine(tiny_engine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_engine, tmp_path / "bagged.onnx"))


@pytest.fixture(scope="module")
def lot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lot") / "lot"
    for section, share in (("a", 0), ("b", 20)):
        (folder / section).mkdir(parents=True)
        for index in range(4):
            Image.fromarray(micrograph(60, 80, index + share)).save(folder / section / f"f{index}.png")
    return folder


def reported(lot: Path, engine: Path, **options: Any) -> dict[str, Any]:
    summary = segment(SegmentOptions(lot, engine, engine.parent / "report", **options)).summary
    found: dict[str, Any] = summary["phases"]["bainite"]["reported"]
    return found | {"sections": summary["sections"], "validation": summary["validation"]}


def test_masks_validate_an_engine_and_its_reports_state_intervals(labelled: Path, engine: Path, lot: Path) -> None:
    before = reported(lot, engine)
    assert (before["evidence"], before["interval"]) == ("none", None) and before["fraction"] == before["raw"]
    path, found = validate(ValidateOptions(engine, labelled))
    assert path == validation_beside(engine) == engine.parent / "bagged.validation.json"
    assert (found.kind, found.domain, found.source, len(found.fields)) == ("validated", "bright", "steel", FIELDS)
    assert read_validation(path).fields == found.fields
    # The same command again continues the report: nothing is measured anew.
    after = reported(lot, engine)
    assert after["evidence"] == "validated" and after["raw"] == before["raw"]
    low, high = after["interval"]
    assert 0 <= low < after["fraction"] < high <= 1 and after["budget"] and "labelled" in after["reasons"][0]
    assert set(after["sections"]) == {"a", "b"} and after["validation"]["fields"] == FIELDS
    page = (engine.parent / "report" / "report.html").read_text(encoding="utf-8")
    assert (
        "Evidence: validated." in page
        and "Budget of the uncertainty" in page
        and "Sampling of fields (ASTM E562)" in page
    )
    assert ",b,yes,validated,validated" in (engine.parent / "report" / "fields.csv").read_text(encoding="utf-8")


def test_the_command_line_says_the_same_words(labelled: Path, engine: Path, lot: Path) -> None:
    outcome = microseg("segment", lot, "--engine", engine, "--out", engine.parent / "r", columns=80)
    words = "not validated; the sampling interval (E562) does not cover errors of the network"
    assert outcome.status == 0 and f"evidence: none: {words}" in outcome.out
    assert words in (engine.parent / "r" / "report.html").read_text(encoding="utf-8")
    assert "not validated: reports state no interval" in microseg("inspect", engine).out
    outcome = microseg("validate", engine, labelled)
    assert outcome.status == 0 and "finds accidents and edits by hand, not forgers" in outcome.out
    told = microseg("inspect", engine, columns=80).out
    assert "validated on 6 fields of 6 groups" in told and max(map(len, told.splitlines()[1:])) <= 80
    outcome = microseg("segment", lot, "--engine", engine, "--out", engine.parent / "r", columns=80)
    assert "evidence: validated" in outcome.out and "Sections" in outcome.out
    outcome = microseg("segment", lot, "--engine", engine, "--out", engine.parent / "r", "--sections", "(f[01])|f")
    assert outcome.status == 2 and "gives no section to a/f2.png" in outcome.err


def test_a_report_of_one_section_by_pattern(labelled: Path, engine: Path, lot: Path) -> None:
    validate(ValidateOptions(engine, labelled))
    found = reported(lot, engine, sections=r"f(\d)$")
    assert {name: each["fields"] for name, each in found["sections"].items()} == dict.fromkeys("0123", 2)


@pytest.mark.parametrize("kind", ["edited", "of another engine", "no validation"])
def test_a_file_that_cannot_be_used_is_told_and_claims_nothing(
    labelled: Path, engine: Path, lot: Path, kind: str
) -> None:
    path, _ = validate(ValidateOptions(engine, labelled))
    content = json.loads(path.read_text())
    if kind == "edited":
        content["fields"][0]["group"] = "other"
        path.write_text(json.dumps(content))
    elif kind == "no validation":
        path.write_text("{}")
    else:
        from tests.engines import write_threshold_engine

        write_threshold_engine(engine, ((0.5,), (0.55,)))
    found = reported(lot, engine)
    words = {"edited": "SHA-256 differs", "of another engine": "it is of another engine", "no validation": "is damaged"}
    assert found["evidence"] == "none" and any(words[kind] in reason for reason in found["reasons"])
    assert not any(str(path.parent) in reason for reason in found["reasons"])
    told = microseg("inspect", engine)
    assert told.status == 0 and "not used" in told.out


def test_training_fields_are_refused(labelled: Path, engine: Path) -> None:
    sha256 = sha256_of(labelled / "images" / "f1.png")
    field = TrainingField(name="x.png", sha256=sha256, group="x", fold=0)
    rewrite_manifest(engine, engine, training_fields=[field])
    outcome = microseg("validate", engine, labelled)
    assert outcome.status == 2 and "1 of 6 fields trained this engine (f1.png)" in outcome.err
    assert not validation_beside(engine).exists()


def test_one_field_is_written_and_gives_no_interval(labelled: Path, engine: Path, lot: Path, tmp_path: Path) -> None:
    single = tmp_path / "single"
    for kind in ("images", "masks"):
        (single / kind).mkdir(parents=True)
        shutil.copy(labelled / kind / "f0.png", single / kind / "f0.png")
    shutil.copy(labelled / "domain.yaml", single)
    outcome = microseg("validate", engine, single)
    assert outcome.status == 0 and "Reports claim nothing by it: one field does not show" in outcome.out
    found = reported(lot, engine)
    assert found["evidence"] == "none" and "one field does not show how far the error varies" in found["reasons"][0]


def test_point_counts_take_the_place_of_masks(labelled: Path, engine: Path, lot: Path, tmp_path: Path) -> None:
    rows = ["field;phase;points_on_phase;points"]
    for index in range(FIELDS):
        mask = np.asarray(Image.open(labelled / "masks" / f"f{index}.png"))
        rows.append(f"f{index};bainite;{str(round(2 * 400 * mask.mean()) / 2).replace('.', ',')};400")
    (tmp_path / "counts.csv").write_text("\n".join(rows))
    outcome = microseg("validate", engine, labelled / "images", "--counts", tmp_path / "counts.csv")
    assert outcome.status == 0, outcome.err
    fields = read_validation(validation_beside(engine)).fields
    assert all(field.counts is not None and field.counts.points == 400 for field in fields) and len(fields) == FIELDS
    by_masks = validate(ValidateOptions(engine, labelled, out=tmp_path / "m.json"))[1].fields
    for one, other in zip(fields, by_masks, strict=True):
        assert one.found_fractions == pytest.approx(other.found_fractions)
        assert one.true_fractions == pytest.approx(other.true_fractions, abs=1 / 800)
    assert reported(lot, engine)["evidence"] == "validated"


def test_repeatability_and_annotators_are_terms(labelled: Path, engine: Path, lot: Path, tmp_path: Path) -> None:
    again, second = tmp_path / "again", tmp_path / "second"
    shutil.copytree(labelled, second)
    again.mkdir()
    for index in range(FIELDS):
        image = np.asarray(Image.open(labelled / "images" / f"f{index}.png"))
        Image.fromarray((image * 0.95).astype(np.uint8)).save(again / f"f{index}.png")
        Image.fromarray((image > 100).astype(np.uint8)).save(second / "masks" / f"f{index}.png")
    _, found = validate(ValidateOptions(engine, labelled, again=again, second=second))
    assert found.repeatability is not None and found.annotators is not None
    assert found.repeatability.degrees_of_freedom == found.annotators.degrees_of_freedom == FIELDS
    assert 0.005 < found.annotators.std[1] < 0.1 and 0.005 < found.repeatability.std[1] < 0.1
    terms = {row["term"]: row for row in reported(lot, engine)["budget"]}
    assert terms["annotators"]["value"] == pytest.approx(found.annotators.std[1])
    assert terms["repeatability"]["degrees"] == FIELDS
    # Fields of one specimen make one pair of means; sections of more fields have the same term.
    groups = "groups: {a: [f0, f1], b: [f2, f3], c: [f4, f5]}\n"
    specimens = Path(shutil.copytree(labelled, tmp_path / "specimens"))
    (specimens / "domain.yaml").write_text(groups + (labelled / "domain.yaml").read_text())
    _, found = validate(ValidateOptions(engine, specimens, again=again))
    assert found.repeatability is not None and found.repeatability.degrees_of_freedom == 3
    row = next(row for row in reported(lot, engine)["budget"] if row["term"] == "repeatability")
    assert (row["value"], row["degrees"]) == (pytest.approx(found.repeatability.std[1]), 3)
    with pytest.raises(InputError, match="is the same file as before"):
        validate(ValidateOptions(engine, labelled, again=labelled))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("f0,ferrite,30,40\nf0,bainite,11,40", "its phases have 41 points together, its grid has 40"),
        ("f0,ferrite,30,40\nf0,bainite,9,40", "its phases have 39 points together, its grid has 40"),
        ("f0,bainite,41,40", "its phases have 41 points together, its grid has 40"),
        ("f0,ferrite,30,40\nf0,bainite,10,50", "'f0' has 50 points here and 40 before"),
        ("f0,pearlite,30,40", "'pearlite' is none of the engine's phases"),
        ("f0,bainite,1.3,40", "points_on_phase = 1.3 is neither whole nor half"),
        ("f0,bainite,many,40", "points_on_phase = 'many' is no number of points"),
        ("f0,bainite,-1,40", "points_on_phase = '-1' is no number of points"),
        ("f0,bainite,nan,40", "points_on_phase = 'nan' is no number of points"),
        ("f0,bainite,1,0", "points = 0 is no number of points"),
        ("f0,bainite,1,40\nf0,bainite,2,40", "two rows for 'bainite'"),
    ],
)
def test_counts_that_cannot_be_used(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "c.csv").write_text(f"field,phase,points_on_phase,points\n{rows}\n")
    with pytest.raises(InputError, match=message):
        read_counts(tmp_path / "c.csv", ["ferrite", "bainite"])


def test_counts_of_three_phases_may_leave_one_out(tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("field,phase,points_on_phase,points\na,x,10,40\na,y,0.5,40\n")
    assert read_counts(tmp_path / "c.csv", ["x", "y", "z"])["a"].on_phase == [10, 0.5, 29.5]
    (tmp_path / "c.csv").write_text("field,phase,points_on_phase,points\na,x,10,40\n")
    with pytest.raises(InputError, match="has no row for y, z"):
        read_counts(tmp_path / "c.csv", ["x", "y", "z"])


def test_counts_of_a_field_that_is_not_there(labelled: Path, engine: Path, tmp_path: Path) -> None:
    (tmp_path / "c.csv").write_text("field,phase,points_on_phase,points\nf9,bainite,10,40\n")
    outcome = microseg("validate", engine, labelled, "--counts", tmp_path / "c.csv")
    assert outcome.status == 2 and "'f9' is no field of" in outcome.err


def test_a_report_of_an_earlier_version_claims_nothing(lot: Path, engine: Path) -> None:
    reported(lot, engine)
    path = engine.parent / "report" / "summary.json"
    content = json.loads(path.read_text())
    content["phases"]["bainite"].pop("reported")
    for key in ("sections", "validation"):
        content.pop(key)
    path.write_text(json.dumps(content))
    phase = read_report(engine.parent / "report").summary.phases["bainite"]
    assert phase.reported is None and (phase.claim.evidence, phase.claim.interval) == ("none", None)
    assert phase.claim.fraction == phase.mean and "microseg segment" in phase.claim.reasons[0]
