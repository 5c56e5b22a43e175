"""Audits of a small lot: the report becomes audited, the next lot validated, and bad input changes nothing."""

from __future__ import annotations

import csv
import errno
import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.schemas.validation import read_validation
from microseg.core.statistics.audit import AuditSample, audited_fractions
from microseg.deploy.audit.apply import Applied, ApplyOptions, apply_audit
from microseg.deploy.audit.draw import Drawn, DrawOptions, draw_audit
from microseg.deploy.report.table import read_rows
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.chain import microseg
from tests.deploy.audit.conftest import Lot
from tests.engines import rewrite_manifest

BAINITE = "bainite"


def _draw(lot: Lot, number: int = 6, **options: Any) -> Drawn:
    return draw_audit(DrawOptions(lot.report, number, seed=5, engine=lot.engine, images=lot.input, **options))


def _read(path: Path) -> NDArray[np.uint8]:
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    return mask.astype(np.uint8)


def _names(drawn: Drawn) -> list[str]:
    return [field.name for field in drawn.draw.fields]


def _apply(lot: Lot, **options: Any) -> Applied:
    return apply_audit(ApplyOptions(lot.report, engine=lot.engine, images=lot.input, **options))


def _state(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def _answers(drawn: Drawn, lot: Lot, shift: int = 0) -> dict[str, Any]:
    """A counts.json whose points are those of the true masks, here on a grid of every fourth pixel."""
    fields = []
    for field in drawn.draw.fields:
        true = _read(lot.true / Path(field.name).with_suffix(".png"))
        points: list[Any] = true[2::4, 2::4].ravel().astype(int).tolist()
        points[: shift + 1] = [[0, 1], *([1] * shift)]
        fields.append({"field": field.name, "sha256": field.sha256, "points": points})
    return {
        "format": "microseg-audit-counts",
        "version": 1,
        "audit": drawn.draw.audit,
        "auditor": "A. B.",
        "phases": ["ferrite", BAINITE],
        "fields": fields,
    }


def _write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_masks_audit_the_report_and_validate_the_next_lot(lot: Lot, tmp_path: Path) -> None:
    drawn = _draw(lot)
    masks = lot.masks(tmp_path / "labels", _names(drawn))
    applied = _apply(lot, masks=masks)
    reported = applied.summary["phases"][BAINITE]["reported"]
    rows = {row["field"]: float(row["fraction_bainite"]) for row in read_rows(lot.report / "fields.csv")}
    true = {name: _read(masks / Path(name).with_suffix(".png")).mean() for name in _names(drawn)}
    every, found, exact = (np.array(list(each)) for each in (rows.values(), [rows[n] for n in true], true.values()))
    both = [np.stack([1 - each, each], 1) for each in (exact, found, every)]
    wanted = audited_fractions(AuditSample(both[0], both[1], both[2], np.full(6, np.inf)))[1]
    assert reported["evidence"] == "audited"
    assert reported["fraction"] == pytest.approx(wanted.fraction)
    assert reported["interval"] == pytest.approx(wanted.interval)
    assert "6 of 14 fields, drawn from this lot, were labelled" in reported["reasons"][0]
    assert {row["evidence_bainite"] for row in read_rows(lot.report / "fields.csv")} == {"audited"}
    assert "points too much bainite" in applied.summary["audit"]["fit"]
    page = (lot.report / "report.html").read_text(encoding="utf-8")
    assert "<strong>Audit:</strong>" in page and "Evidence: audited." in page
    validation = read_validation(lot.engine.with_name("bagged.validation.json"))
    assert {field.name for field in validation.fields} == set(_names(drawn))
    # The same fields again are replaced, and a report that is measured again keeps its audit.
    (lot.report / "report.xlsx").touch()
    _apply(lot, masks=masks)
    with zipfile.ZipFile(lot.report / "report.xlsx") as workbook:
        assert b"audited" in workbook.read("xl/worksheets/sheet1.xml")
    assert len(read_validation(lot.engine.with_name("bagged.validation.json")).fields) == 6
    again = segment(SegmentOptions(lot.input, lot.engine, lot.report, sections="^(.)"))
    assert again.summary["phases"][BAINITE]["reported"] == _summary(lot)["phases"][BAINITE]["reported"]
    assert again.summary["phases"][BAINITE]["reported"]["interval"] == pytest.approx(wanted.interval)
    following = segment(SegmentOptions(lot.input / "s0", lot.engine, tmp_path / "next"))
    assert following.summary["phases"][BAINITE]["reported"]["evidence"] == "validated"


@pytest.mark.parametrize("inverts", [False, True])
def test_fields_with_a_domain_file_near_them_validate_the_next_lot(inverts: bool, lot: Lot, tmp_path: Path) -> None:
    """Where the file of one folder says otherwise, the fields stand for no common preparation."""
    shutil.rmtree(lot.report)
    (lot.input.parent / "domain.yaml").write_text("pixel_size_um: 0.5\n", encoding="utf-8")
    if inverts:
        (lot.input / "s1" / "domain.yaml").write_text("pixel_size_um: 0.5\ninvert: true\n", encoding="utf-8")
    segment(SegmentOptions(lot.input, lot.engine, lot.report))
    drawn = _draw(lot)
    applied = _apply(lot, masks=lot.masks(tmp_path / "labels", _names(drawn)))
    beside = lot.engine.with_name("bagged.validation.json")
    if inverts:
        assert any("several settings of `invert`" in notice for notice in applied.notices) and not beside.exists()
        return
    assert read_validation(beside).preparation.pixel_size_um is None
    shutil.copytree(lot.input / "s0", lot.input.parent / "lot2")
    following = segment(SegmentOptions(lot.input.parent / "lot2", lot.engine, tmp_path / "next"))
    assert following.summary["phases"][BAINITE]["reported"]["evidence"] == "validated"


def _summary(lot: Lot) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((lot.report / "summary.json").read_text(encoding="utf-8"))
    return content


def test_the_drawn_folder_itself_is_taken(lot: Lot) -> None:
    drawn = _draw(lot)
    masks = drawn.out / "masks"
    with pytest.raises(InputError, match="all its masks are still the predictions"):
        _apply(lot, masks=drawn.out)
    lot.masks(masks, _names(drawn)[1:])
    applied = _apply(lot, masks=drawn.out)
    assert applied.notices == (f"{_names(drawn)[0]}: the mask is the prediction, unchanged",)
    again = _apply(lot, masks=masks).audit
    assert [field.confusion for field in again.fields] == [field.confusion for field in applied.audit.fields]
    outlines = _apply(lot, masks=drawn.out / "qupath.yaml")
    assert outlines.summary["phases"][BAINITE]["reported"]["evidence"] == "audited"


def test_counts_of_the_page(lot: Lot, tmp_path: Path) -> None:
    drawn = _draw(lot, points=140)
    assert {field.points for field in drawn.draw.fields} == {140}
    counts = _write(tmp_path / "counts.json", _answers(drawn, lot))
    applied = _apply(lot, counts=(counts,))
    assert applied.summary["audit"]["auditors"] == ["A. B."]
    assert applied.audit.fields[0].counts is not None
    assert applied.audit.fields[0].counts.on_phase[0] % 1 == 0.5
    other = _write(tmp_path / "other.json", _answers(drawn, lot, shift=3) | {"auditor": "C. D."})
    both = _apply(lot, counts=(counts, other)).summary["audit"]["agreement"]
    assert "A. B. (counts.json), C. D. (other.json)" in both and "Cohen's kappa 0.9" in both
    far = _write(tmp_path / "far.json", _answers(drawn, lot, shift=60))
    before = _state(lot.report)
    with pytest.raises(InputError, match=r"disagree: bainite \+\d.* points in the mean, by more than 10 points on"):
        _apply(lot, counts=(counts, far))
    assert _state(lot.report) == before
    cut = _answers(drawn, lot)
    cut["fields"][2]["points"].pop()
    with pytest.raises(InputError, match="has 139 points, and its grid 140"):
        _apply(lot, counts=(_write(tmp_path / "cut.json", cut),))


@pytest.mark.parametrize("name", ["../../outside.tif", "/outside.tif"])
def test_a_report_that_names_a_place_outside_is_refused(lot: Lot, name: str) -> None:
    record = next((lot.report / "records").rglob("*.json"))
    content = json.loads(record.read_text(encoding="utf-8"))
    old, content["field"]["name"] = content["field"]["name"], name
    _write(record, content)
    table = lot.report / "fields.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(old, name, 1), encoding="utf-8")
    with pytest.raises(InputError, match="lies outside of the report's input"):
        _draw(lot)


def test_a_table_of_counts(lot: Lot, tmp_path: Path) -> None:
    drawn = _draw(lot)
    rows = [
        {"field": name, "phase": BAINITE, "points_on_phase": 20 + k, "points": 60}
        for k, name in enumerate(_names(drawn))
    ]
    applied = _apply(lot, counts=(_table(tmp_path / "counts.csv", rows),))
    assert applied.summary["phases"][BAINITE]["reported"]["evidence"] == "audited"
    unfinished = [row | {"audit": drawn.draw.audit, "auditor": "=A"} for row in rows]
    for path, changed, message in (
        ("a", rows[1:], "is not finished: 1 of 6 drawn fields are missing"),
        ("b", [*rows, rows[0]], "has two rows for"),
        ("c", unfinished, "has 60 of"),
        ("d", [row | {"audit": "0" * 16} for row in unfinished], "is of another audit"),
        ("e", [*rows, rows[0] | {"field": _others(lot, drawn)[0]}], "was not drawn"),
        ("f", [*rows, rows[0] | {"field": "elsewhere.tif"}], "is no field of this report"),
    ):
        with pytest.raises(InputError, match=message):
            _apply(lot, counts=(_table(tmp_path / f"{path}.csv", changed),))


def _others(lot: Lot, drawn: Drawn) -> list[str]:
    return [row["field"] for row in read_rows(lot.report / "fields.csv") if row["field"] not in _names(drawn)]


def _table(path: Path, rows: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[-1]))
        table.writeheader()
        table.writerows(rows)
    return path


def test_masks_that_do_not_fit_change_nothing(lot: Lot, tmp_path: Path) -> None:
    drawn = _draw(lot)
    names = _names(drawn)
    before = _state(lot.report)
    small = lot.masks(tmp_path / "small", names)
    cv2.imwrite(str(small / Path(names[0]).with_suffix(".png")), np.zeros((30, 30), np.uint8))
    white = lot.masks(tmp_path / "white", names)
    for path in white.rglob("*.png"):
        cv2.imwrite(str(path), _read(path) * 255)
    empty = lot.masks(tmp_path / "empty", names)
    cv2.imwrite(str(empty / Path(names[0]).with_suffix(".png")), np.full((40, 56), 255, np.uint8))
    cases = {
        "30 x 30": small,
        "hold 0 and 255 alone": white,
        "no measured pixel is labelled": empty,
        "have no mask": lot.masks(tmp_path / "fewer", names[1:]),
        "was not drawn": lot.masks(tmp_path / "more", [*names, _others(lot, drawn)[0]]),
        "does not exist": tmp_path / "nothing",
    }
    for message, masks in cases.items():
        with pytest.raises(InputError, match=message):
            _apply(lot, masks=masks)
    assert _state(lot.report) == before
    assert not lot.engine.with_name("bagged.validation.json").exists()


def test_a_full_disk_changes_nothing(lot: Lot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full_at(name: str) -> None:
        def until_full(path: Path, data: bytes) -> int:
            if path.name.startswith(name):
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(path, data)

        monkeypatch.setattr(Path, "write_bytes", until_full)

    before = _state(lot.report)
    full_at("draw.json")
    with pytest.raises(InputError, match=r"draw\.json: the disk is full"):
        _draw(lot)
    assert _state(lot.report) == before and not lot.report.with_name("report-audit").exists()
    monkeypatch.undo()
    drawn = _draw(lot)
    masks = lot.masks(tmp_path / "labels", _names(drawn))
    before = _state(lot.report)
    for name in ("audit.json", "fields.csv", "report.html", "summary.json"):
        full_at(name)
        with pytest.raises(InputError, match="the disk is full"):
            _apply(lot, masks=masks)
        assert _state(lot.report) == before
    assert not lot.engine.with_name("bagged.validation.json").exists()


def test_the_validation_is_named_by_its_whole_path(lot: Lot, tmp_path: Path) -> None:
    drawn = _draw(lot)
    engine = lot.engine.parent / "lot" / ".." / lot.engine.name
    applied = apply_audit(ApplyOptions(lot.report, lot.masks(tmp_path / "labels", _names(drawn)), engine=engine))
    assert applied.validation == lot.engine.resolve().with_name("bagged.validation.json")


def test_reports_that_do_not_fit_are_refused(lot: Lot, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no fields were drawn"):
        _apply(lot, masks=lot.true)
    drawn = _draw(lot)
    masks = lot.masks(tmp_path / "labels", _names(drawn))
    with pytest.raises(InputError, match="needs --masks or --counts"):
        _apply(lot)
    mask = next((lot.report / "masks").rglob(f"{Path(_names(drawn)[0]).stem}*.png"))
    mask.rename(tmp_path / "away.png")
    with pytest.raises(InputError, match="masks or overlays of 1 fields are missing"):
        _apply(lot, masks=masks)
    (tmp_path / "away.png").rename(mask)
    (lot.report / "audit").chmod(0o555)
    lot.report.chmod(0o555)
    before = _state(lot.report)
    outcome = microseg("audit", "apply", lot.report, "--masks", masks, "--engine", lot.engine)
    lot.report.chmod(0o755)
    (lot.report / "audit").chmod(0o755)
    assert (outcome.status, "is read-only" in outcome.err) == (2, True)
    assert _state(lot.report) == before
    shutil.copyfile(lot.input / _names(drawn)[0], lot.input / "s0" / "new.tif")
    next((lot.input / "s1").iterdir()).unlink()
    segment(SegmentOptions(lot.input, lot.engine, lot.report, sections="^(.)"))
    with pytest.raises(InputError, match="of an older state of it"):
        _apply(lot, masks=masks)


def test_an_audit_of_an_older_state_no_longer_counts(lot: Lot, tmp_path: Path) -> None:
    drawn = _draw(lot)
    _apply(lot, masks=lot.masks(tmp_path / "labels", _names(drawn)))
    lot.engine.with_name("bagged.validation.json").unlink()
    (lot.input / _others(lot, drawn)[0]).unlink()
    found = segment(SegmentOptions(lot.input, lot.engine, lot.report, sections="^(.)")).summary
    reported = found["phases"][BAINITE]["reported"]
    assert (reported["evidence"], found["audit"]) == ("none", None)
    assert "the audit is of an older state" in reported["reasons"][-2]


def test_fields_that_trained_the_engine_are_no_audit(lot: Lot, tmp_path: Path) -> None:
    from microseg.core.schemas.bag import TrainingField
    from microseg.core.system.files import sha256_of

    name = "s0/f00.tif"
    trained = TrainingField(name=name, sha256=sha256_of(lot.input / name), group=name, fold=0)
    engine = rewrite_manifest(lot.engine, tmp_path / "trained.onnx", training_fields=[trained])
    report = tmp_path / "trained-report"
    segment(SegmentOptions(lot.input, engine, report, sections="^(.)"))
    drawn = draw_audit(DrawOptions(report, 13, seed=1))
    assert name not in _names(drawn)
    assert (len(drawn.draw.fields), drawn.left_out) == (13, 1)
    masks = lot.masks(tmp_path / "labels", [*_names(drawn), name])
    with pytest.raises(InputError, match="trained this engine"):
        apply_audit(ApplyOptions(report, masks))


def test_a_copied_report_works_and_a_moved_engine_is_asked_for(lot: Lot, tmp_path: Path) -> None:
    segment(SegmentOptions(lot.input, lot.engine, lot.report, sections="^(.)"))
    copy = tmp_path / "copy"
    shutil.copytree(lot.report, copy)
    drawn = draw_audit(DrawOptions(copy, 6, seed=2))
    moved = lot.engine.rename(tmp_path / "moved.onnx")
    masks = lot.masks(tmp_path / "labels", _names(drawn))
    with pytest.raises(InputError, match=r"Remedy: --engine with the bagged\.onnx"):
        apply_audit(ApplyOptions(copy, masks))
    applied = apply_audit(ApplyOptions(copy, masks, engine=moved))
    assert applied.validation == tmp_path / "moved.validation.json"
