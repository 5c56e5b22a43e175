"""`microseg inspect` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest

from microseg.core.schemas.keys import METADATA_KEY
from microseg.core.schemas.manifest import Manifest
from microseg.runtime import EngineFile, read_manifest
from tests.chain import microseg
from tests.engines import write_with_metadata
from tests.plans import write_plan


def test_prints_the_manifest(exported: Path) -> None:
    outcome = microseg("inspect", exported)
    assert outcome.status == 0, outcome.err
    for part in ("lath-bainite", "synthetic-s (source)", "0.0277 um", "stride 8 px", "as exported", "fold 1 against"):
        assert part in outcome.out
    assert EngineFile(exported).sha256 in outcome.out


def test_nothing_is_broken_in_a_narrow_terminal_or_a_log(tiny_engine: Path, tmp_path: Path) -> None:
    path = write_plan(tiny_engine, tmp_path / f"{'a-long-name-of-an-engine-' * 4}.plan")
    lines = microseg("inspect", path, columns=80).out.splitlines()
    file = EngineFile(path)
    assert lines[0] == str(path)
    for line in (f"file SHA-256    {file.sha256}", f"network SHA-256 {file.manifest.network_sha256}"):
        assert line in lines and len(line) == 80
    assert not [line for line in lines[1:] if len(line) > 80]


def test_prints_a_plan(tiny_engine: Path, tmp_path: Path) -> None:
    path = write_plan(tiny_engine, tmp_path / "bagged.plan", hardware_compatibility="ampere_plus")
    shown = microseg("inspect", path).out
    for part in ("as exported", "TensorRT 11.4.0.106, profile l4", "NVIDIA RTX A4000, compute capability 8.6",
                 "cards from Ampere on", "16 to 64 (best 32) px, 1 to 2 (best 2) at once", "no: not yet compared"):  # fmt: skip
        assert part in shown
    path.write_bytes(b"another")
    changed = microseg("inspect", path)
    assert changed.status == 4 and "CHANGED since the export" in changed.out


def test_json_is_the_whole_manifest(exported: Path) -> None:
    outcome = microseg("inspect", exported, "--json")
    assert Manifest.model_validate(json.loads(outcome.out)) == read_manifest(exported)


def test_a_changed_model_is_told(tiny_engine: Path, exported: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_engine)
    model.graph.name = "other"
    changed = write_with_metadata(
        tmp_path / "changed.onnx", model, {METADATA_KEY: read_manifest(tiny_engine).model_dump_json()}
    )
    assert "as exported" in microseg("inspect", tiny_engine).out
    shown = microseg("inspect", changed)
    assert "CHANGED since the export" in shown.out
    told = microseg("inspect", changed, "--json")
    assert json.loads(told.out)
    for outcome in (shown, told):
        assert outcome.status == 4 and "network CHANGED since the export. Remedy" in outcome.err
    whole = microseg("inspect", exported, "--json")
    assert (whole.status, whole.err) == (0, "")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({}, "without microseg's manifest"),
        ({METADATA_KEY: '{"manifest_version": 99}'}, "its manifest has version 99"),
        ({METADATA_KEY: "{"}, "its manifest is damaged"),
    ],
)
def test_other_files_exit_with_2(tiny_engine: Path, tmp_path: Path, metadata: dict[str, str], message: str) -> None:
    other = write_with_metadata(tmp_path / "other.onnx", onnx.load(tiny_engine), metadata)
    outcome = microseg("inspect", other)
    assert outcome.status == 2
    assert message in outcome.err
