"""The ONNX Runtime engine on the hand-made thresholds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

from microseg.core.errors import InputError
from microseg.core.schemas.keys import METADATA_KEY
from microseg.core.schemas.manifest import Manifest
from microseg.core.system.files import sha256_of
from microseg.runtime import Runtime, open_engine, read_manifest
from microseg.runtime.engine_metadata import manifest_entries
from tests.engines import write_threshold_engine, write_with_metadata


def test_labels_votes_features_probability(tiny_engine: Path) -> None:
    engine = open_engine(tiny_engine, threads=1)
    tiles = np.random.default_rng(0).integers(0, 256, (3, 1, 24, 32), np.uint8)
    found = engine.run(tiles, features=True, probability=True)
    assert found.labels.dtype == found.votes.dtype == np.uint8
    assert found.labels.shape == (3, 24, 32) and found.votes.shape == (3, 2, 24, 32)
    assert found.features is not None and found.features.shape == (3, 2, 1)
    assert found.probability is not None and found.probability.shape == (3, 2, 24, 32)
    mean = cv2.blur(tiles[0, 0].astype(np.float32), (3, 3), borderType=cv2.BORDER_REPLICATE) / 255
    clear = np.abs(mean - 0.4) > 1e-4
    assert np.array_equal(found.votes[0, 0][clear], (mean > 0.4)[clear])
    assert np.array_equal(found.labels, found.probability.argmax(1))
    assert engine.runs == 1 and engine.provider == "CPUExecutionProvider"
    bare = engine.run(tiles)
    assert bare.features is None and bare.probability is None
    assert np.array_equal(bare.labels, found.labels) and np.array_equal(bare.votes, found.votes)


def test_three_phases(tmp_path: Path) -> None:
    path = write_threshold_engine(tmp_path / "three.onnx", [(0.3, 0.6)], names=("a", "b", "c"))
    tiles = np.repeat(np.array([20, 120, 220], np.uint8), 64).reshape(3, 1, 8, 8)
    assert [int(labels[0, 0]) for labels in open_engine(path, 1).run(tiles).labels] == [0, 1, 2]


def test_graph_that_is_no_engine(tiny_engine: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_engine)
    del model.graph.output[1]
    path = write_with_metadata(tmp_path / "e.onnx", model, {METADATA_KEY: read_manifest(tiny_engine).model_dump_json()})
    with pytest.raises(InputError, match="lacks the outputs"):
        open_engine(path, 1)


@pytest.mark.parametrize(
    ("runtime", "change", "said"),
    [
        ("onnxruntime", "phases", "its network has 2 phases and its manifest 3"),
        ("onnxruntime", "folds", "its network has 2 folds and its manifest 3"),
        ("openvino", "folds", "its network has 2 folds and its manifest 3"),
    ],
)
def test_a_manifest_that_counts_otherwise(
    runtime: Runtime, change: str, said: str, tiny_engine: Path, tmp_path: Path
) -> None:
    content = read_manifest(tiny_engine).model_dump(mode="json")
    content[change].append(content[change][-1])
    entries = manifest_entries(Manifest.model_validate(content))
    path = write_with_metadata(tmp_path / "e.onnx", onnx.load(tiny_engine), entries)
    with pytest.raises(InputError, match=said):
        open_engine(path, 1, runtime=runtime)


def test_damaged_weights(tiny_engine: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_engine)
    model.graph.node[1].op_type = "NoSuchOperator"
    path = write_with_metadata(tmp_path / "e.onnx", model, {METADATA_KEY: read_manifest(tiny_engine).model_dump_json()})
    with pytest.raises(InputError, match="cannot load"):
        open_engine(path, 1)


def test_a_device_that_is_not_there(tiny_engine: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    with pytest.raises(InputError, match=r"microseg\[gpu\]"):
        open_engine(tiny_engine, device="cuda")


def test_tensorrt_is_not_touched_without_a_device(tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    def touched(*given: object, **options: object) -> None:
        raise AssertionError("a session was begun")

    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", touched)
    monkeypatch.setattr("microseg.runtime.onnx_engine.gpu_absence", lambda: "no driver")
    for device in ("cuda", "tensorrt"):
        with pytest.raises(InputError, match=rf"--device {device}: no NVIDIA GPU can be used here \(no driver\)"):
            open_engine(tiny_engine, device=device)


def test_tensorrts_provider_keeps_what_it_built(tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    given: list[list[tuple[str, dict[str, str]]]] = []

    def session(*arguments: object, providers: list[tuple[str, dict[str, str]]], **options: object) -> None:
        given.append(providers)
        raise RuntimeError("no card")

    providers = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: providers)
    monkeypatch.setattr(onnxruntime, "InferenceSession", session)
    monkeypatch.setattr("microseg.runtime.onnx_engine.gpu_absence", lambda: None)
    for writable in (True, False):
        monkeypatch.setattr("os.access", lambda path, mode, writable=writable: writable)
        with pytest.raises(InputError, match="no card"):
            open_engine(tiny_engine, device="tensorrt")
    kept = {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": f"{tiny_engine}.{sha256_of(tiny_engine)[:16]}.tensorrt",
    }
    assert [found[0] for found in given] == [(providers[0], kept), (providers[0], {})]
    assert [[name for name, _ in found] for found in given] == [providers[:2]] * 2
