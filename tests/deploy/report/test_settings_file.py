"""Versions of a report's files: an earlier report is read and not continued, a newer one is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.deploy.report.reader import read_report
from microseg.deploy.report.records import FailedField, FieldRecord, StoredRecord, find_record
from microseg.deploy.report.settings_file import ReportSettings
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning.profile_file import TuningProfile

Wafer = Callable[..., Path]


def _change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@pytest.mark.parametrize("version", [0, 2])
def test_a_report_of_another_version_is_not_continued(wafer: Wafer, tiny_engine: Path, version: int) -> None:
    folder = wafer(1)
    report = segment(SegmentOptions(folder, tiny_engine)).report
    _change(report / "settings.json", report_version=version)
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=rf"report of version {version}, .*writes version 1.*Remedy: another --out"):
        segment(SegmentOptions(folder, tiny_engine))
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


def test_a_report_of_an_earlier_version_is_read(wafer: Wafer, tiny_engine: Path) -> None:
    report = segment(SegmentOptions(wafer(1), tiny_engine)).report
    _change(report / "summary.json", report_version=0)
    _change(report / "settings.json", report_version=0)
    assert read_report(report).summary.report_version == 0


def test_a_record_without_a_version_is_the_first(wafer: Wafer, tiny_engine: Path) -> None:
    """Version 0.1.0 wrote none."""
    folder = wafer(1)
    report = segment(SegmentOptions(folder, tiny_engine)).report
    path = report / "records" / "field0.png.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    assert content.pop("record_version") == 1
    path.write_text(json.dumps(content), encoding="utf-8")
    assert find_record(report, "field0.png", folder / "field0.png", content["field"]["sha256"]) is not None
    assert segment(SegmentOptions(folder, tiny_engine)).summary["run"]["fields_resumed"] == 1


@pytest.mark.parametrize("model", [ReportSettings, FieldRecord, FailedField, StoredRecord, TuningProfile])
def test_every_key_is_described(model: type[FrozenModel]) -> None:
    bare = [name for name, key in model.model_fields.items() if not key.description]
    assert not bare


def test_files_of_others_that_end_like_ours_stay(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    """Parts of a large archive: the folder is not empty, and nothing of it is removed."""
    (tmp_path / "out").mkdir()
    for number in (1, 2):
        (tmp_path / "out" / f"backup.{number}.part").write_bytes(b"x")
    with pytest.raises(InputError, match="is not empty and no report"):
        segment(SegmentOptions(wafer(1), tiny_engine, out=tmp_path / "out"))
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_temporary_files_of_a_killed_run_go_and_those_of_a_running_one_stay(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(1)
    report = folder.parent / "wafer_dir-report"
    report.mkdir()
    killed = [report / "settings.json.4194399-0af1.part", report / "masks" / "field0.png.png.4194399.part"]
    running = report / "masks" / f"field9.png.png.{os.getppid()}-77.part"
    killed[0].touch()
    segment(SegmentOptions(folder, tiny_engine))
    for path in (*killed, running):
        path.write_bytes(b"half")
    segment(SegmentOptions(folder, tiny_engine))
    assert list(report.rglob("*.part")) == [running]


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_a_report_behind_links(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    """A folder that does not exist yet, and a mask that lies elsewhere."""
    folder = wafer(1)
    (tmp_path / "out").symlink_to("disk/report")
    segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "out"))
    assert (tmp_path / "out").is_symlink() and (tmp_path / "disk" / "report" / "summary.json").is_file()
    (tmp_path / "disk" / "report" / "fields.csv").rename(tmp_path / "disk" / "table.csv")
    (tmp_path / "disk" / "report" / "fields.csv").symlink_to("../table.csv")
    (tmp_path / "disk" / "table.csv").write_bytes(b"")
    segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "out"))
    assert (tmp_path / "out" / "fields.csv").is_symlink()
    assert b"field0.png" in (tmp_path / "disk" / "table.csv").read_bytes()


@pytest.mark.skipif(os.name != "posix", reason="links of POSIX")
def test_links_in_a_circle_are_refused_in_words(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    folder = wafer(1)
    (tmp_path / "loop").symlink_to("loop")
    for out in (tmp_path / "loop", tmp_path / "loop" / "below"):
        with pytest.raises(InputError, match=r"loop.*(its links lead in a circle|cannot be written).*Remedy"):
            segment(SegmentOptions(folder, tiny_engine, out=out))
    with pytest.raises(InputError, match="loop: does not exist"):
        segment(SegmentOptions(tmp_path / "loop", tiny_engine))
    (folder / "masks").symlink_to("masks")  # as the folder of masks, and as an image
    (folder / "b.png").symlink_to("b.png")
    found = segment(SegmentOptions(folder, tiny_engine)).summary
    assert [failed["field"] for failed in found["failed"]] == ["b.png"] and found["fields"]["measured"] == 1
