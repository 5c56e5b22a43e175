"""Which runtime computes an engine: by file, precision and hardware, or as asked."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Literal

import pytest

from microseg.core.errors import InputError, MissingExtraError
from microseg.core.schemas.fidelity import Quantisation
from microseg.core.system.processor_count import compute_threads
from microseg.runtime import RuntimeConfig, choose, runtime_config
from tests.engines import rewrite_manifest


def without(*missing: str) -> Callable[[str], ModuleSpec | None]:
    """`find_spec` on a machine that lacks some packages and has all others."""
    return lambda name: None if name in missing else importlib.util.spec_from_loader(name, None)


@pytest.fixture
def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_config, "gpu_present", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")


def _int8(engine: Path, path: Path, activations: Literal["symmetric", "asymmetric"]) -> Path:
    made = Quantisation(
        activations=activations, weight_bits=8, instruction_sets=[], calibrated_on="t2", calibration_tiles=4
    )
    return rewrite_manifest(engine, path, precision="int8", quantisation=made)


@pytest.mark.usefixtures("_no_gpu")
def test_by_file_and_hardware(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    int8 = _int8(tiny_engine, tmp_path / "int8.onnx", "asymmetric")
    monkeypatch.setattr(runtime_config, "find_spec", without())
    assert choose(tiny_engine) == RuntimeConfig("onnxruntime", "cpu", compute_threads())
    assert choose(tiny_engine, threads=1).threads == 1
    assert choose(int8).runtime == "openvino"
    assert choose(int8, "onnxruntime").runtime == "onnxruntime"
    symmetric = _int8(tiny_engine, tmp_path / "symmetric.onnx", "symmetric")
    assert choose(symmetric).runtime == "onnxruntime"
    with pytest.raises(InputError, match="OpenVINO changes the labels of such engines"):
        choose(symmetric, "openvino")
    assert choose(int8, device="cuda") == RuntimeConfig("onnxruntime", "cuda", compute_threads())
    assert choose(tiny_engine, "openvino").runtime == "openvino"
    (tmp_path / "bagged.plan").touch()
    assert choose(tmp_path / "bagged.plan") == RuntimeConfig("tensorrt", "cuda", None)
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert choose(int8).runtime == "onnxruntime"


@pytest.mark.usefixtures("_no_gpu")
def test_by_what_is_installed(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    int8 = _int8(tiny_engine, tmp_path / "int8.onnx", "asymmetric")
    monkeypatch.setattr(runtime_config, "find_spec", without("openvino"))
    assert choose(int8).runtime == "onnxruntime"
    with pytest.raises(MissingExtraError, match=r"pip install 'microseg\[openvino\]'"):
        choose(tiny_engine, "openvino")
    monkeypatch.setattr(runtime_config, "find_spec", without("onnxruntime"))
    assert choose(tiny_engine).runtime == "openvino"
    with pytest.raises(MissingExtraError, match=r"microseg\[cpu\]"):
        choose(tiny_engine, device="cuda")
    monkeypatch.setattr(runtime_config, "find_spec", without("onnxruntime", "openvino"))
    with pytest.raises(MissingExtraError, match=r"microseg\[cpu\]"):
        choose(tiny_engine)


def test_a_gpu_is_taken_where_onnxruntime_can_use_it(tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    monkeypatch.setattr(runtime_config, "gpu_present", lambda: True)
    for providers, device in ((["CUDAExecutionProvider"], "cuda"), (["CPUExecutionProvider"], "cpu")):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda found=providers: found)
        assert choose(tiny_engine).device == device
    assert choose(tiny_engine, device="cpu").device == "cpu"


def test_what_cannot_be(tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--runtime tensorrt runs \.plan files.*--device tensorrt"):
        choose(tiny_engine, "tensorrt")
    with pytest.raises(InputError, match="computes on the CPU, not on cuda"):
        choose(tiny_engine, "openvino", "cuda")
    (tmp_path / "bagged.plan").touch()
    with pytest.raises(InputError, match="a plan runs with --runtime tensorrt"):
        choose(tmp_path / "bagged.plan", "onnxruntime")
    with pytest.raises(InputError, match="a plan runs with"):
        choose(tmp_path / "bagged.plan", device="cpu")


@pytest.mark.usefixtures("_no_gpu")
def test_no_more_threads_than_processors(tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime_config, "usable_processors", lambda: 2)
    assert choose(tiny_engine, threads=2).threads == 2
    with pytest.raises(InputError, match=r"--threads 3: this process may use 2 processors.*at most --threads 2"):
        choose(tiny_engine, threads=3)
