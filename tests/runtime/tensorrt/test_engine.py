"""How an engine over a plan batches, overlaps and captures, rehearsed on the host; no GPU is measured here."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError
from microseg.runtime.tensorrt.device import CudaError, checked
from microseg.runtime.tensorrt.engine import TensorRTEngine
from tests.host_cuda import HostCuda, HostRuntimeConfig, open_on_host
from tests.plans import write_plan


@pytest.fixture
def cuda() -> HostCuda:
    return HostCuda()


@pytest.fixture
def engine(tiny_engine: Path, tmp_path: Path, cuda: HostCuda) -> TensorRTEngine:
    return opened(tiny_engine, tmp_path, cuda)


def opened(tiny_engine: Path, folder: Path, cuda: HostCuda, **changes: Any) -> TensorRTEngine:
    path = write_plan(tiny_engine, folder / "a.plan", **changes)
    return open_on_host(path, cuda)


def tiles(count: int, height: int = 32, width: int = 48, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, 1, height, width), np.uint8)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
def test_any_number_of_tiles(engine: TensorRTEngine, count: int) -> None:
    for seed in range(4):
        pixels = tiles(count, seed=seed)
        found = engine.run(pixels, features=seed % 2 == 0)
        assert found.labels.dtype == found.votes.dtype == np.uint8
        assert np.array_equal(found.labels, pixels[:, 0] > 100)
        assert np.array_equal(found.votes[:, 1], pixels[:, 0] > 120)
        if seed % 2:
            assert found.features is None
        else:
            assert found.features is not None and found.features.dtype == np.float32
            assert np.allclose(found.features[:, 1, 2], pixels.mean((1, 2, 3)))
    assert engine.runs == 4


def test_a_shape_that_returns_is_launched_as_a_graph(engine: TensorRTEngine, cuda: HostCuda) -> None:
    for seed in range(3):
        pixels = tiles(4, seed=seed)
        assert np.array_equal(engine.run(pixels).labels, pixels[:, 0] > 100)
    # Two batches a call: the first call warms both slots, the other two launch.
    assert cuda.launches == 4
    pixels = tiles(4, 64, 16)
    assert np.array_equal(engine.run(pixels).labels, pixels[:, 0] > 100)
    assert cuda.launches == 4
    pixels = tiles(4, seed=7)
    assert np.array_equal(engine.run(pixels).labels, pixels[:, 0] > 100)


def test_fewer_tiles_than_the_plan_takes(tiny_engine: Path, tmp_path: Path, cuda: HostCuda) -> None:
    from microseg.core.schemas.plan import SizeRange

    engine = opened(tiny_engine, tmp_path, cuda, batch=SizeRange(min=2, opt=2, max=2))
    pixels = tiles(3)
    assert np.array_equal(engine.run(pixels).labels, pixels[:, 0] > 100)
    assert set(engine._engine.context.shapes) == {(2, 1, 32, 48)}


def test_what_the_plan_does_not_run(engine: TensorRTEngine) -> None:
    for height, width in ((72, 32), (32, 72), (8, 32)):
        with pytest.raises(FieldError, match=rf"runs tiles of 16 to 64 px a side; this one is {width} x {height} px"):
            engine.run(tiles(1, height, width))
    with pytest.raises(InputError, match=r"was built without probability.*keep_probability: true"):
        engine.run(tiles(1), probability=True)


def test_memory_that_is_not_there_and_memory_given_back(tiny_engine: Path, tmp_path: Path, cuda: HostCuda) -> None:
    with opened(tiny_engine, tmp_path, cuda) as engine:
        engine.run(tiles(3))
        assert cuda.memory
    assert not cuda.memory
    # None, some of the first batch's, some of the second's.
    for there in (0, 3, 11):
        cuda.allocations_left = there
        with pytest.raises(CudaError, match="out of memory"):
            opened(tiny_engine, tmp_path, cuda)
        assert not cuda.memory


def test_a_network_that_cannot_be_captured_is_launched_kernel_by_kernel(engine: TensorRTEngine, cuda: HostCuda) -> None:
    cuda.captures = False
    for seed in range(4):
        pixels = tiles(4, seed=seed)
        assert np.array_equal(engine.run(pixels).labels, pixels[:, 0] > 100)
    assert cuda.launches == 0


def test_an_interrupted_run_leaves_nothing_under_way(
    tiny_engine: Path, tmp_path: Path, cuda: HostCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    engine = opened(tiny_engine, tmp_path, cuda)
    monkeypatch.setattr(engine, "_collect", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.run(tiles(3))
    assert any(stream.done < len(stream.work) for stream in cuda.streams.values())
    engine.close()
    assert all(stream.done == len(stream.work) for stream in cuda.streams.values())


def test_compiled_kernels_are_kept_for_the_next_start(
    tiny_engine: Path, tmp_path: Path, cuda: HostCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = tmp_path / "a.plan.kernels"

    def start() -> list[bytes]:
        with opened(tiny_engine, tmp_path, cuda, flavour="tensorrt_rtx") as engine:
            pixels = tiles(3)
            for _ in range(3):
                assert np.array_equal(engine.run(pixels).labels, pixels[:, 0] > 100)
            loaded: list[bytes] = engine._cache.loaded
        return loaded

    assert start() == [] and kernels.read_bytes() == b"kernels"
    assert cuda.launches == 0, "TensorRT for RTX captures by itself"
    before = kernels.stat()
    assert start() == [b"kernels"] and kernels.stat() == before
    monkeypatch.setattr(HostRuntimeConfig, "serialized", None)
    assert start() == [b"kernels"] and kernels.stat() == before
    kernels.unlink()
    kernels.mkdir()
    monkeypatch.setattr(HostRuntimeConfig, "serialized", b"others")
    assert start() == []


def test_a_failure_of_the_device_is_that_of_the_field(engine: TensorRTEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine._engine.context, "execute_async_v3", lambda stream_handle: False)
    with pytest.raises(FieldError, match=r"rehearsal failed on 2 tiles of 48 x 32 px \(TensorRT gave no reason\)"):
        engine.run(tiles(2))


@pytest.mark.skipif(importlib.util.find_spec("cuda") is None, reason="cuda-bindings is not installed")
def test_the_installed_cuda_takes_these_calls() -> None:
    """Without a driver each answers with a status; with other parameters it would raise TypeError."""
    runtime = importlib.import_module("cuda.bindings.runtime")
    if runtime.cudaGetDeviceCount()[0] == runtime.cudaError_t.cudaSuccess:
        pytest.skip("this machine has a GPU: these calls would be carried out")
    stream, event = runtime.cudaStream_t(0), runtime.cudaEvent_t(0)
    kind = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
    mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
    assert int(stream) == 0
    for answer in (
        runtime.cudaStreamCreateWithFlags(runtime.cudaStreamNonBlocking),
        runtime.cudaHostAlloc(1, runtime.cudaHostAllocDefault),
        runtime.cudaMalloc(1),
        runtime.cudaEventCreateWithFlags(runtime.cudaEventDisableTiming | runtime.cudaEventBlockingSync),
        runtime.cudaMemcpyAsync(16, 32, 1, kind, stream),
        runtime.cudaEventRecord(event, stream),
        runtime.cudaStreamWaitEvent(stream, event, 0),
        runtime.cudaEventSynchronize(event),
        runtime.cudaStreamSynchronize(stream),
        runtime.cudaStreamBeginCapture(stream, mode),
        runtime.cudaStreamEndCapture(stream),
        runtime.cudaGraphInstantiate(runtime.cudaGraph_t(0), 0),
        runtime.cudaGraphLaunch(runtime.cudaGraphExec_t(0), stream),
        runtime.cudaGetDeviceProperties(0),
        runtime.cudaSetDevice(0),
        runtime.cudaFree(0),
    ):
        with pytest.raises(CudaError, match="driver"):
            checked(runtime, answer)


@pytest.mark.parametrize("name", ["tensorrt_rtx", "tensorrt_lean"])
def test_the_installed_tensorrt_has_these_names(name: str) -> None:
    library = pytest.importorskip(f"{name}_bindings", reason=f"{name} is not installed")
    wanted = {
        "Runtime": ["deserialize_cuda_engine"],
        "ICudaEngine": [
            "get_tensor_shape",
            "get_tensor_dtype",
            "get_tensor_name",
            "get_tensor_profile_shape",
            "num_io_tensors",
            "create_execution_context",
            "create_engine_inspector",
        ],
        "DataType": ["UINT8", "FLOAT"],
        "IExecutionContext": ["set_input_shape", "set_tensor_address", "execute_async_v3"],
    }
    if name == "tensorrt_rtx":
        wanted["Runtime"] += ["get_engine_validity", "engine_header_size"]
        wanted |= {
            "ICudaEngine": [*wanted["ICudaEngine"], "create_runtime_config"],
            "IRuntimeConfig": [
                "create_runtime_cache",
                "set_runtime_cache",
                "cuda_graph_strategy",
                "dynamic_shapes_kernel_specialization_strategy",
            ],
            "IRuntimeCache": ["serialize", "deserialize"],
            "CudaGraphStrategy": ["WHOLE_GRAPH_CAPTURE"],
            "DynamicShapesKernelSpecializationStrategy": ["EAGER"],
        }
    missing = [
        f"{owner}.{part}"
        for owner, parts in wanted.items()
        for part in parts
        if not hasattr(getattr(library, owner), part)
    ]
    assert not missing
