"""`microseg.export_engine`: what the command does, from Python."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import microseg
from microseg.core.errors import InputError
from microseg.export import onnx_export
from microseg.export.api import ReferenceOrigin, export_engine
from microseg.export.torch_graph import bag as graph
from microseg.runtime import EngineFile
from tests.plans import Silent, needs_rtx


@pytest.fixture(autouse=True)
def _ready_made(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    """Spares the exporter's seconds: the graph is that of the session's engine."""
    monkeypatch.setattr(graph, "build_onnx", lambda networks, path: shutil.copyfile(exported, path))
    monkeypatch.setattr(onnx_export, "measure_bytes_per_pixel", lambda path, stride: 100.0)


@pytest.mark.parametrize("reference", ["synthetic", "real"])
def test_a_run_becomes_an_engine_with_reference_tiles(
    trained: Path, tmp_path: Path, reference: ReferenceOrigin
) -> None:
    progress = Silent()
    out = tmp_path / "engines" / "bagged.onnx"
    exported = microseg.export_engine(
        str(trained), out=str(out), reference=reference, progress=progress
    )  # fmt: skip
    assert exported.path == out
    file = EngineFile(out).require_intact()
    assert exported.manifest == file.manifest
    assert file.reference is not None and file.reference.origin == reference
    assert progress.phases[0] == "reading the folds" and "comparing with torch" in progress.phases


def test_without_progress_nothing_is_printed(trained: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    export_engine(trained, out=tmp_path / "bagged.onnx")
    assert capfd.readouterr() == ("", "")


@needs_rtx
def test_an_onnx_engine_becomes_a_plan(exported: Path, tmp_path: Path) -> None:
    made = export_engine(exported, out=tmp_path / "bagged.plan", profile="rtx-station")
    assert made.manifest.plan is not None and made.manifest.plan.profile == "rtx-station"
    assert EngineFile(made.path).require_intact().manifest == made.manifest


def test_options_that_exclude_each_other_are_refused(exported: Path, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--profile a100: is for plans"):
        export_engine(trained, out=tmp_path / "a.onnx", profile="a100")
    with pytest.raises(InputError, match="--precision: settled when"):
        export_engine(exported, out=tmp_path / "a.plan", precision="fp16")
    with pytest.raises(InputError, match=r"is a file; --out .* takes a run"):
        export_engine(exported, out=tmp_path / "a.onnx")
    with pytest.raises(InputError, match=r"--refit .*: takes ENGINE\.onnx"):
        export_engine(trained, out=tmp_path / "a.plan", refit=exported)
    assert not list(tmp_path.iterdir())
