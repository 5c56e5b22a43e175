"""`microseg tune` as typed, and `segment` after it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.chain import microseg


def test_segment_picks_the_profile_up(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSEG_CONFIG", str(tmp_path / "configuration"))
    (tmp_path / "fields").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "fields" / "a.png")
    outcome = microseg("tune", tiny_engine, "--seconds", "1", "--field-px", "96", "64", "--runtime", "onnxruntime")
    assert outcome.status == 0, outcome.err
    assert "megapixels/s" in outcome.out and "1 x 96 x 64" in outcome.out
    told = outcome.out.split("`segment` uses from now on: ")[1]
    assert told.startswith("the default configuration, the fastest.") or "times as fast as the default." in told
    (path,) = (tmp_path / "configuration" / "profiles").iterdir()
    assert str(path) in outcome.out.replace("\n", "")
    assert json.loads(path.read_text(encoding="utf-8"))["runtime"] == "onnxruntime"
    outcome = microseg("segment", tmp_path / "fields", "--engine", tiny_engine)
    assert outcome.status == 0, outcome.err
    assert f"Tuning profile: {path}" in outcome.out.replace("\n", "")
    assert "Computed by onnxruntime" in outcome.out and "(CPUExecutionProvider)" in outcome.out


def test_bad_input_exits_with_2(tiny_engine: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ([tmp_path / "none.onnx"], "does not exist"),
        ([tiny_engine, "--runtime", "tensorrt"], "--runtime tensorrt runs .plan files"),
        ([tiny_engine, "--seconds", "0"], "seconds"),
        ([tiny_engine, "--memory-mb", "10"], "needs at least"),
    ):
        outcome = microseg("tune", *arguments)
        assert outcome.status == 2, (arguments, outcome)
        assert message in outcome.err and "Traceback" not in outcome.err
