"""`microseg verify` as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from microseg.runtime.engine_metadata import read_metadata
from tests.chain import microseg
from tests.engines import with_reference, write_with_metadata
from tests.plans import write_plan


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_prints_a_table_and_keeps_a_record(tiny_engine: Path, tmp_path: Path) -> None:
    engine = with_reference(tiny_engine, tmp_path / "engine.onnx")
    outcome = microseg("verify", engine)
    assert outcome.status == 0, outcome.err
    for part in ("network's hash", "reference tiles: labels", "onnxruntime", "CPUExecutionProvider", "passed"):
        assert part in outcome.out
    assert json.loads((tmp_path / "verify.json").read_text(encoding="utf-8"))["passed"] is True
    assert (tmp_path / "verify.md").read_text(encoding="utf-8").startswith("# engine.onnx: passed")


def test_a_failure_exits_with_4_and_is_recorded(tiny_engine: Path, tmp_path: Path) -> None:
    engine = with_reference(tiny_engine, tmp_path / "engine.onnx")
    model = onnx.load(engine)
    model.graph.name = "other"
    changed = write_with_metadata(tmp_path / "changed.onnx", model, read_metadata(engine))
    outcome = microseg("verify", changed, "--out", "records/a.md", "--threads", "1")
    assert outcome.status == 4
    assert "CHANGED" in outcome.out and "FAILED" in outcome.out
    assert "Nothing was run" in outcome.out and "Remedy: copy or export the engine again" in outcome.out
    assert json.loads((tmp_path / "records" / "a.json").read_text(encoding="utf-8"))["passed"] is False
    assert (tmp_path / "records" / "a.md").read_text(encoding="utf-8").startswith("# changed.onnx: FAILED")


def test_a_row_is_a_line_however_long_the_name_of_a_field(tiny_engine: Path, tmp_path: Path) -> None:
    engine = with_reference(tiny_engine, tmp_path / "engine.onnx")
    folder = tmp_path / "fields"
    folder.mkdir()
    name = f"{'plate-17-section-' * 6}.png"
    Image.fromarray(np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)).save(folder / name)
    lines = microseg("verify", engine, folder, "--against", engine, "--threads", "1", columns=80).out.splitlines()
    assert any(line.startswith(f"ok      field {name}: ") and "(allowed: " in line for line in lines), lines


def test_against_the_run(exported: Path, trained: Path, unseen: Path) -> None:
    outcome = microseg("verify", exported, unseen / "images", "--against", trained, "--threads", "1")
    assert outcome.status == 0, outcome.out + outcome.err
    assert "fields against run: labels" in outcome.out


def test_bad_input_exits_with_2(tiny_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "cut.onnx").write_bytes(tiny_engine.read_bytes()[:500])
    for arguments, message in (
        ([tiny_engine], "holds no reference tiles"),
        ([tiny_engine, "--out", "a.txt"], "--out a.txt: the record is a .json file. Remedy: --out a.txt.json"),
        ([tmp_path / "cut.onnx"], "cut off"),
        ([tiny_engine, tmp_path / "empty"], "no images"),
        ([tiny_engine, "--runtime", "tensorrt", "--against", tiny_engine], "--runtime tensorrt runs .plan files"),
        ([tiny_engine, "--against", tmp_path / "empty"], "not a run folder"),
    ):
        outcome = microseg("verify", *arguments)
        assert outcome.status == 2, (arguments, outcome)
        assert message in outcome.err and "Traceback" not in outcome.err
    assert not (tmp_path / "verify.json").exists()
    assert np.array_equal(sorted(path.name for path in tmp_path.iterdir()), ["cut.onnx", "empty"])


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux alone has a folder where nobody can make a file")
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_computed(
    tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = microseg("verify", tiny_engine, tiny_engine.parent, "--against", tiny_engine, "--out", "/proc/x.json")
    assert refused.status == 2 and "/proc/x.json: cannot be written" in refused.err and not refused.out
    monkeypatch.setenv("MICROSEG_CONFIG", "/proc/nowhere")
    refused = microseg("tune", tiny_engine)
    assert refused.status == 2 and "/proc/nowhere" in refused.err and not refused.out


def test_a_record_never_replaces_a_manifest(tiny_engine: Path, tmp_path: Path) -> None:
    plan = write_plan(tiny_engine, tmp_path / "bagged.plan")
    before = (tmp_path / "bagged.plan.json").read_bytes()
    for arguments in ((plan,), (tiny_engine, "--against", plan)):
        outcome = microseg("verify", *arguments, "--out", "bagged.plan.json")
        assert outcome.status == 2 and "would replace the manifest of" in outcome.err
    assert (tmp_path / "bagged.plan.json").read_bytes() == before and len(list(tmp_path.glob("*.md"))) == 0


def test_weights_moved_to_another_file_are_named(tiny_engine: Path, tmp_path: Path) -> None:
    """What a conversion with the onnx package does to large models: the hash differs, and that is not the reason to tell."""
    engine = tmp_path / "external.onnx"
    model = onnx.load(with_reference(tiny_engine, tmp_path / "engine.onnx"))
    onnx.save(model, engine, save_as_external_data=True, location="weights.bin", size_threshold=0)
    outcome = microseg("verify", engine)
    assert outcome.status == 2 and "'weights.bin'" in outcome.err, outcome.err
    assert not (tmp_path / "verify.json").exists()
