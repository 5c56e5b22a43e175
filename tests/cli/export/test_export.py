"""`microseg export` as typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.export import onnx_export
from microseg.export.tensorrt import plan
from microseg.export.tensorrt.build import Built
from microseg.export.tensorrt.layer_precisions import Precisions
from microseg.export.torch_graph import bag as graph
from microseg.runtime import read_manifest
from tests.chain import microseg


@pytest.fixture(autouse=True)
def _ready_made(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    monkeypatch.setattr(graph, "build_onnx", lambda networks, path: shutil.copyfile(exported, path))
    monkeypatch.setattr(onnx_export, "measure_bytes_per_pixel", lambda path, stride: 100.0)


def test_writes_an_engine_and_says_what_comes_next(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "sub" / "bagged.onnx"
    outcome = microseg("export", trained, "--out", out)
    assert outcome.status == 0, outcome.err
    assert "2 folds" in outcome.out and "Against torch" in outcome.out
    assert f"microseg segment FOLDER --engine {out}" in outcome.out
    assert read_manifest(out).bytes_per_pixel == 100
    assert list(out.parent.iterdir()) == [out]
    again = microseg("export", trained, "--out", out)
    assert again.status == 2
    assert "exists" in again.err


def test_a_failed_gate_exits_with_4(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(networks: list[object], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return [np.full((1, 2, *pixels.shape[-2:]), np.nan, np.float32) for _ in networks]

    monkeypatch.setattr(graph, "run_torch", broken)
    outcome = microseg("export", trained, "--out", tmp_path / "bagged.onnx")
    assert outcome.status == 4
    assert "Nothing was written" in outcome.err
    assert not list(tmp_path.iterdir())


def test_a_plan_from_the_portable_file(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built = Built(b"plan", "1.7", None, ["labels"], Precisions({"fp32": 5, "fp16": 1}, {"fp32": 2, "fp16": 1}), None)
    monkeypatch.setattr(plan, "build", lambda *arguments: built)
    out = tmp_path / "bagged.plan"
    outcome = microseg("export", tiny_engine, "--out", out, "--profile", "rtx-station")
    assert outcome.status == 0, outcome.err
    assert "TensorRT for RTX 1.7, profile rtx-station" in outcome.out and "built without a card" in outcome.out
    assert "Layers: 1 fp16, 5 fp32; convolutions and products: 1 fp16, 2 fp32" in outcome.out
    assert "note: a fp32 engine, of which 1 layers compute in another precision" in outcome.out
    assert "Unverified" in outcome.out and f"microseg verify {out}" in outcome.out and "segment" not in outcome.out


def test_what_does_not_go_together(tiny_engine: Path, trained: Path, tmp_path: Path) -> None:
    for arguments, message in (
        ((tiny_engine, "--out", tmp_path / "b.onnx"), "takes a run. Remedy: a run folder, or --out bagged.plan"),
        ((trained, "--out", tmp_path / "b.onnx", "--profile", "a100"), "--profile a100: is for plans"),
        ((trained, "--out", tmp_path / "b.engine"), "engines are .onnx files, or TensorRT plans"),
        ((trained, "--out", tiny_engine / "b.onnx"), "b.onnx: cannot be written"),
        ((trained, "--out", tiny_engine / "b.plan"), "b.plan: cannot be written"),
        ((tiny_engine, "--out", tmp_path / "b.plan", "--profile", "b200"), "no such profile. Remedy: one of a100, l4"),
        ((tmp_path / "no.onnx", "--out", tmp_path / "b.plan", "--profile", "t4"), "no.onnx: does not exist"),
        ((tiny_engine, "--out", tmp_path / "b.plan", "--precision", "fp16"), "--precision: settled when"),
        ((tmp_path / "no", "--out", tmp_path / "b.onnx"), "no: is not a run folder"),
        (
            (tiny_engine, "--out", tmp_path / "b.plan", "--precision", "fp32", "--calibrate", trained),
            "--precision, --cal",
        ),
        ((tiny_engine, "--out", tmp_path / "b.plan", "--reference", "real", "--symmetric"), "--symmetric, --reference"),
        (
            (trained, "--out", tmp_path / "b.plan", "--profile", "t4", "--symmetric"),
            "--symmetric: is for --precision int8",
        ),
    ):
        outcome = microseg("export", *arguments)
        assert outcome.status == 2 and message in outcome.err
    assert not list(tmp_path.iterdir())
