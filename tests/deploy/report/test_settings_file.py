"""Versions of a report's files: an earlier report is read and not continued, a newer one is refused."""

from __future__ import annotations

import json
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
    assert find_record(report, "field0.png", content["field"]["sha256"]) is not None
    assert segment(SegmentOptions(folder, tiny_engine)).summary["run"]["fields_resumed"] == 1


@pytest.mark.parametrize("model", [ReportSettings, FieldRecord, FailedField, StoredRecord, TuningProfile])
def test_every_key_is_described(model: type[FrozenModel]) -> None:
    bare = [name for name, key in model.model_fields.items() if not key.description]
    assert not bare
