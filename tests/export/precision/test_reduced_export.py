"""`export_run` in FP16 and INT8: the whole way from a run to an engine, or nothing."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from microseg.agreement.fidelity import nearest_limit
from microseg.core.errors import InputError
from microseg.core.schemas import tolerance
from microseg.core.schemas.fidelity import Fidelity
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.tolerance import Limit
from microseg.export import onnx_export as module
from microseg.export.onnx_export import export_run
from microseg.export.precision import reduce as precision
from microseg.export.torch_graph import bag as graph
from microseg.runtime import EngineFile, open_engine, read_manifest
from tests.chain import microseg
from tests.plans import needs_rtx


@pytest.fixture(autouse=True)
def _ready_made(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    """Spares the exporter's seconds: the graph is that of the session's engine."""
    monkeypatch.setattr(graph, "build_onnx", lambda networks, path: shutil.copyfile(exported, path))
    monkeypatch.setattr(module, "measure_bytes_per_pixel", lambda path, stride: 100.0)


@pytest.fixture
def wide_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six steps of training leave logits that hardly differ: by chance of the processor many pixels are decided otherwise."""
    monkeypatch.setitem(tolerance.LIMITS, "fp16", Limit(0.3, 20.0, 1.0))
    monkeypatch.setitem(tolerance.LIMITS, "int8", Limit(0.5, 20.0, 5.0))


@pytest.fixture
def strict_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tolerance.LIMITS, "int8", Limit(1e-9, 1e-9, 1e-9))
    # No layer is tried alone: that takes its time and is tested elsewhere.
    monkeypatch.setattr(precision, "harms", lambda model, places, *rest: [0.0] * len(places))


@pytest.mark.usefixtures("wide_limits")
@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_an_engine_of_less_precision_is_an_engine(name: Any, trained: Path, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "bagged.onnx"
    manifest = export_run(trained, out, precision=name)
    assert read_manifest(out) == manifest
    assert manifest.precision == name
    assert manifest.model_sha256 == EngineFile(out).hashes.network
    assert [parity.fold for parity in manifest.parity] == [-1, 0, 1]
    assert {each.fields_from for each in manifest.fidelity} == {"held-out tiles of the run"}
    assert all(set(each.limits_points) == {"ferrite", "lath-bainite"} for each in manifest.fidelity)
    assert all(each.not_a_number == 0 for each in manifest.fidelity)
    assert {row.layer for row in manifest.float32_layers} >= {"input", "output"}
    assert (manifest.quantisation is None) == (name == "fp16")
    assert out.stat().st_size < 0.8 * exported.stat().st_size
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 40, 56), np.uint8)
    ours, theirs = (open_engine(path, 1).run(pixels, features=True, probability=True) for path in (out, exported))
    for ours_found, theirs_found in zip(vars(ours).values(), vars(theirs).values(), strict=True):
        assert ours_found.shape == theirs_found.shape
        assert ours_found.dtype == theirs_found.dtype
    assert ours.probability is not None and theirs.probability is not None
    assert np.abs(ours.probability - theirs.probability).max() < (5e-3 if name == "fp16" else 0.3)
    shown = microseg("inspect", out).out
    for part in (name, "Layers in float32", "normalises the input", "held-out tiles of the run", "lath-bainite"):
        assert part in shown


@needs_rtx
@pytest.mark.usefixtures("wide_limits")
@pytest.mark.parametrize("name", ["fp16", "int8"])
def test_a_plan_of_less_precision(name: str, trained: Path, tmp_path: Path) -> None:
    """The reduced graphs are such that TensorRT builds them, and as much of them as the manifest says."""
    profile = tmp_path / "small.yaml"
    profile.write_text(
        "flavour: tensorrt_rtx\ntile_px: {min: 64, opt: 256, max: 256}\nbatch: {min: 1, opt: 2, max: 2}\n",
        encoding="utf-8",
    )
    out = tmp_path / "bagged.plan"
    outcome = microseg("export", trained, "--out", out, "--precision", name, "--profile", profile)
    assert outcome.status == 0, outcome.err
    assert "Layers in float32" in outcome.out and f"microseg verify {out}" in outcome.out
    manifest = read_manifest(out)
    assert manifest.plan is not None and manifest.precision == name
    assert manifest.plan.matrix_precisions[name] > 10
    assert manifest.quantisation is None or manifest.quantisation.activations == "symmetric"
    assert EngineFile(out).reference is not None
    shown = microseg("inspect", out).out
    for part in (name, "profile small", "Layers in float32", "verified"):
        assert part in shown


@pytest.mark.usefixtures("wide_limits")
def test_a_calibration_domain_is_judged_too(trained: Path, unseen: Path, tmp_path: Path) -> None:
    out = tmp_path / "bagged.onnx"
    outcome = microseg("export", trained, "--out", out, "--precision", "int8", "--calibrate", unseen)
    assert outcome.status == 0, outcome.err
    manifest = read_manifest(out)
    first = manifest.fidelity[0]
    assert [(each.arithmetic, each.fields_from) for each in manifest.fidelity] == [
        (runtime, name)
        for runtime in ("onnxruntime", "openvino")
        for name in ("synthetic-s", "held-out tiles of the run")
    ]
    assert "2 fields, openvino" in outcome.out
    assert len(first.fields) == 2
    for field in first.fields:
        assert sum(field.torch_percent.values()) == pytest.approx(100)
        assert sum(field.engine_percent.values()) == pytest.approx(100)
    assert manifest.quantisation is not None
    assert manifest.quantisation.calibrated_on == "synthetic-s"
    assert "INT8: asymmetric activations" in outcome.out and "follows the last convolution" in outcome.out


def test_float32_is_compared_on_a_calibration_domain_as_well(trained: Path, unseen: Path, tmp_path: Path) -> None:
    manifest = export_run(trained, tmp_path / "bagged.onnx", calibrate=unseen)
    assert manifest.precision == "fp32"
    assert [each.fields_from for each in manifest.fidelity] == ["synthetic-s", "held-out tiles of the run"]
    assert nearest_limit(manifest.fidelity, "fp32").ratio <= 1


@pytest.mark.usefixtures("strict_limits")
def test_beyond_the_gate_no_file_appears(trained: Path, unseen: Path, tmp_path: Path) -> None:
    out = tmp_path / "out" / "bagged.onnx"
    outcome = microseg("export", trained, "--out", out, "--precision", "int8", "--calibrate", unseen)
    assert outcome.status == 4
    for part in (
        "int8 engine does not agree with float32 torch",
        "Nothing was written",
        "calibrated on synthetic-s",
        "--precision fp16",
    ):
        assert part in outcome.err
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("place", ["draft", "out"])
def test_a_full_disk_leaves_nothing(place: str, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*arguments: object, **named: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if place == "draft":
        monkeypatch.setattr(module, "reduce_precision", full)
    else:
        monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(InputError, match="No space left on device"):
        export_run(trained, tmp_path / "bagged.onnx", precision="fp16" if place == "draft" else "fp32")
    assert not list(tmp_path.iterdir())


def test_wrong_usage_is_refused_before_anything_is_read(trained: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.onnx"
    with pytest.raises(InputError, match=r"--precision int4: unknown. Remedy: fp32, fp16, int8"):
        export_run(trained, out, precision="int4")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="--symmetric: is for --precision int8"):
        export_run(trained, out, precision="fp16", symmetric=True)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match="empty"):
        export_run(trained, out, precision="int8", calibrate=empty)
    outcome = microseg("export", trained, "--out", out, "--precision", "int4")
    assert outcome.status == 2
    assert "int4" in outcome.err
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(empty / "blank.png")
    outcome = microseg("export", trained, "--out", out, "--precision", "int8", "--calibrate", empty)
    assert outcome.status == 2
    assert "every pixel is 0: there is nothing to measure" in outcome.err


def test_manifests_from_before_are_read(exported: Path) -> None:
    content = read_manifest(exported).model_dump()
    for key in ("fidelity", "float32_layers", "quantisation"):
        del content[key]
    found = Manifest.model_validate(content)
    assert found.fidelity == [] == found.float32_layers
    assert found.quantisation is None
    assert Fidelity.model_fields["arithmetic"].default == "onnxruntime"
