"""Files that version 0.1.0 wrote are read, and nothing in them is lost.

`tests/data/version-0.1.0` holds what that version wrote about a tiny chain: an engine and its plan, the manifest of a trained
bag, run folders without weights, a report without pictures, and a profile.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import microseg as package
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.run import PretrainSummary, read_run
from microseg.deploy.report.records import FieldRecord
from microseg.deploy.tuning.profile_file import read_profile
from microseg.runtime import EngineFile
from microseg.synthetic.folder import write_domain
from tests.chain import microseg

OLD = Path(__file__).parent / "data" / "version-0.1.0"


def _values(content: Any) -> Iterator[str]:
    """All values of a file but versions of its schema, which reading may raise; not their keys, which may be renamed."""
    match content:
        case dict():
            for key, value in content.items():
                if not key.endswith("_version"):
                    yield from _values(value)
        case list() | tuple():
            for value in content:
                yield from _values(value)
        case bool() | None | str():
            yield str(content)
        case _:
            yield repr(float(content))


def _lost(old: Any, read: Any) -> Counter[str]:
    """Values that a file has and what was read from it has not."""
    return Counter(_values(old)) - Counter(_values(read))


def _json(path: str) -> Any:
    return json.loads((OLD / path).read_text(encoding="utf-8"))


def test_a_manifest_is_read() -> None:
    old = _json("manifest.json")
    manifest = Manifest.model_validate(old)
    assert not _lost(old, manifest.model_dump(mode="json"))
    assert manifest.model_sha256 == old["model_sha256"]


def test_an_engine_is_inspected() -> None:
    done = microseg("inspect", OLD / "tiny.onnx", "--json")
    assert done.status == 0, done.err
    printed = json.loads(done.out)
    assert printed["model_sha256"] == _json("report/summary.json")["engine"]["model_sha256"]


def test_an_engine_measures_what_it_measured(tmp_path: Path) -> None:
    """The micrographs of the old report, made again: the same file hashes, so the same pixels, and the same counts."""
    write_domain(tmp_path / "wafer", "t3", 2, 5, size_px=(60, 50))
    (tmp_path / "wafer" / "domain.yaml").unlink()  # version 0.1.0 did not look one folder above
    report = package.segment_folder(
        tmp_path / "wafer" / "images", engine=OLD / "tiny.onnx", out=tmp_path / "report", pixel_size_um=0.1
    )
    for path in sorted((OLD / "report" / "records").iterdir()):
        old = json.loads(path.read_text(encoding="utf-8"))["field"]
        new = json.loads((report.path / "records" / path.name).read_text(encoding="utf-8"))["field"]
        assert {key: new[key] for key in ("counts", "fold_counts")} == {
            key: old[key] for key in ("counts", "fold_counts")
        }


def test_the_manifest_beside_a_plan_is_read() -> None:
    old = _json("tiny.plan.json")
    del old["microseg.manifest_sha256"]  # checked when it is read
    file = EngineFile(OLD / "tiny.plan")
    assert not _lost(old, file.manifest.model_dump(mode="json"))
    assert file.manifest.plan is not None


@pytest.mark.parametrize("name", ["supervised", "adapted", "student"])
def test_a_run_is_read(name: str) -> None:
    record, summary = read_run(OLD / name)
    old = yaml.safe_load((OLD / name / "run.yaml").read_text(encoding="utf-8"))
    assert not _lost(old, record.model_dump(mode="json"))
    assert not _lost(_json(f"{name}/summary.json"), summary.model_dump(mode="json"))


def test_a_pretrained_encoder_s_summary_is_read() -> None:
    old = _json("pretrained/summary.json")
    assert not _lost(old, PretrainSummary.model_validate(old).model_dump(mode="json"))


def test_a_report_is_read() -> None:
    old = _json("report/summary.json")
    report = package.read_report(OLD / "report")
    assert not _lost(old, report.summary.model_dump(mode="json"))
    for path in (OLD / "report" / "records").iterdir():
        field = json.loads(path.read_text(encoding="utf-8"))["field"]
        assert not _lost(field, FieldRecord.model_validate(field).model_dump(mode="json"))


def test_a_report_with_other_settings_is_not_continued(tmp_path: Path) -> None:
    """It is left as it is."""
    write_domain(tmp_path / "wafer", "t3", 2, 5, size_px=(60, 50))
    (tmp_path / "wafer" / "domain.yaml").unlink()  # version 0.1.0 did not look one folder above
    report = Path(shutil.copytree(OLD / "report", tmp_path / "report"))
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    done = microseg(
        "segment", tmp_path / "wafer" / "images", "--engine", OLD / "tiny.onnx", "--out", report, "--invert"
    )
    assert done.status == 2
    assert "another --out" in done.err
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


def test_a_profile_is_read() -> None:
    assert not _lost(_json("profile.json"), read_profile(OLD / "profile.json").model_dump(mode="json"))
