"""`microseg export` as typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.export import engine, graph
from microseg.runtime import read_manifest
from tests.chain import microseg


@pytest.fixture(autouse=True)
def _ready_made(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    monkeypatch.setattr(graph, "build_onnx", lambda networks, path: shutil.copyfile(exported, path))
    monkeypatch.setattr(engine, "measure_bytes_per_pixel", lambda path, stride: 100.0)


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
