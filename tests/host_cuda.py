"""A stand-in for CUDA and TensorRT on the host's memory, whose streams run as late as their events allow.

What is queued runs when something waits for it and not before, so a missing event shows as wrong results. It rehearses
the order of calls; it says nothing about a GPU.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.reference import Reference, reference_tile
from microseg.runtime import RuntimeConfig, read_manifest
from microseg.runtime.tensorrt.engine import TensorRTEngine


class Stream:
    """A queue of work; `capturing` takes it up instead while a graph is captured."""

    def __init__(self, handle: int) -> None:
        self.handle = handle
        self.work: list[Callable[[], None]] = []
        self.done = 0
        self.capturing: list[Callable[[], None]] | None = None

    def __int__(self) -> int:
        return self.handle

    def add(self, work: Callable[[], None]) -> None:
        (self.work if self.capturing is None else self.capturing).append(work)

    def advance(self, position: int) -> None:
        while self.done < position:
            self.done += 1
            self.work[self.done - 1]()


class Event:
    """A position in a stream."""

    stream: Stream | None = None
    position = 0

    def wait(self) -> None:
        if self.stream is not None:
            self.stream.advance(self.position)


class _Kinds:
    cudaMemcpyHostToDevice = cudaMemcpyDeviceToHost = 0
    cudaStreamCaptureModeThreadLocal = 1


class _Errors:
    cudaSuccess = 0


class HostCuda:
    """The functions of `cuda.bindings.runtime` that an engine uses, each returning (status, value, ...)."""

    cudaStreamNonBlocking = cudaEventDisableTiming = cudaEventBlockingSync = cudaHostAllocDefault = 0
    cudaMemcpyKind = cudaStreamCaptureMode = _Kinds
    cudaError_t = _Errors

    def __init__(self) -> None:
        self.streams: dict[int, Stream] = {}
        self.memory: dict[int, Any] = {}
        self.launches = 0
        self.allocations_left = 1000
        self.captures = True

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, b"out of memory"

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[int, Stream]:
        stream = Stream(len(self.streams) + 1)
        self.streams[stream.handle] = stream
        return 0, stream

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[int, Event]:
        return 0, Event()

    def cudaMalloc(self, size: int) -> tuple[int, int]:
        if not self.allocations_left:
            return 2, 0
        self.allocations_left -= 1
        buffer = (ctypes.c_uint8 * size)()
        address = ctypes.addressof(buffer)
        self.memory[address] = buffer
        return 0, address

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[int, int]:
        return self.cudaMalloc(size)

    def cudaFree(self, address: int) -> tuple[int]:
        del self.memory[address]
        return (0,)

    cudaFreeHost = cudaFree

    def cudaMemcpyAsync(self, to: int, of: int, size: int, kind: int, stream: Stream) -> tuple[int]:
        def copy() -> None:
            ctypes.memmove(to, of, size)

        stream.add(copy)
        return (0,)

    def cudaEventRecord(self, event: Event, stream: Stream) -> tuple[int]:
        event.stream, event.position = stream, len(stream.work)
        return (0,)

    def cudaStreamWaitEvent(self, stream: Stream, event: Event, flags: int) -> tuple[int]:
        source, position = event.stream, event.position
        assert source is not None
        stream.add(lambda: source.advance(position))
        return (0,)

    def cudaEventSynchronize(self, event: Event) -> tuple[int]:
        event.wait()
        return (0,)

    def cudaStreamSynchronize(self, stream: Stream) -> tuple[int]:
        stream.advance(len(stream.work))
        return (0,)

    def cudaStreamBeginCapture(self, stream: Stream, mode: int) -> tuple[int]:
        stream.capturing = []
        return (0,)

    def cudaStreamEndCapture(self, stream: Stream) -> tuple[int, list[Callable[[], None]]]:
        captured, stream.capturing = stream.capturing, None
        return (0, captured or []) if self.captures else (901, [])

    def cudaGraphInstantiate(self, graph: list[Callable[[], None]], flags: int) -> tuple[int, Any]:
        return 0, list(graph)

    def cudaGraphLaunch(self, graph: list[Callable[[], None]], stream: Stream) -> tuple[int]:
        self.launches += 1
        stream.work.extend(graph)
        return (0,)

    def _nothing(self, handle: Any) -> tuple[int]:
        return (0,)

    cudaGraphDestroy = cudaGraphExecDestroy = cudaEventDestroy = cudaStreamDestroy = _nothing


class HostContext:
    """An execution context that thresholds: fold f of two votes 1 where a pixel exceeds 100 + 20 f."""

    def __init__(self, cuda: HostCuda) -> None:
        self.cuda = cuda
        self.addresses: dict[str, int] = {}
        self.shape: tuple[int, ...] = ()
        self.shapes: list[tuple[int, ...]] = []

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        self.shapes.append(shape)
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        addresses, shape = dict(self.addresses), self.shape
        self.cuda.streams[stream_handle].add(lambda: self._compute(addresses, shape))
        return True

    def _compute(self, addresses: dict[str, int], shape: tuple[int, ...]) -> None:
        count, _, height, width = shape
        tiles = self._at(addresses["tiles"], shape, np.uint8)
        votes = np.stack([tiles[:, 0] > 100, tiles[:, 0] > 120], 1)
        self._at(addresses["votes"], votes.shape, np.uint8)[...] = votes
        self._at(addresses["labels"], (count, height, width), np.uint8)[...] = votes[:, 0]
        self._at(addresses["features"], (count, 2, 3), np.float32)[...] = tiles.mean((1, 2, 3))[:, None, None]

    def _at(self, address: int, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address)).view(dtype).reshape(shape)


class HostEngine:
    """A deserialised engine of two folds and three features."""

    def __init__(self, cuda: HostCuda) -> None:
        self.context = HostContext(cuda)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return {"features": (-1, 2, 3)}[name]

    def create_execution_context(self, config: Any = None) -> HostContext:
        return self.context

    def create_runtime_config(self) -> HostRuntimeConfig:
        return HostRuntimeConfig(self)


class HostRuntimeConfig:
    """What TensorRT for RTX is told before it runs; its cache lives no longer than the engine."""

    serialized: bytes | None = b"kernels"

    def __init__(self, engine: HostEngine) -> None:
        self.engine = weakref.ref(engine)
        self.loaded: list[bytes] = []

    def create_runtime_cache(self) -> HostRuntimeConfig:
        return self

    def set_runtime_cache(self, cache: HostRuntimeConfig) -> bool:
        return cache is self

    def deserialize(self, content: bytes) -> bool:
        self.loaded.append(content)
        return True

    def serialize(self) -> bytes | None:
        assert self.engine() is not None
        return self.serialized


class _Rtx:
    """The names of TensorRT for RTX that an engine uses."""

    class CudaGraphStrategy:
        WHOLE_GRAPH_CAPTURE = 1

    class DynamicShapesKernelSpecializationStrategy:
        EAGER = 1


class _Logger:
    """Nothing went wrong."""

    def last(self) -> str:
        return "TensorRT gave no reason"


def open_on_host(path: Path, cuda: HostCuda) -> TensorRTEngine:
    """An engine over the plan at `path`, whatever it holds, that thresholds instead."""
    return TensorRTEngine(
        path=path,
        manifest=read_manifest(path),
        config=RuntimeConfig("tensorrt", "cuda", None),
        version="11.4",
        provider="rehearsal",
        library=_Rtx,
        runtime=None,
        engine=HostEngine(cuda),
        logger=_Logger(),
        cuda=cuda,
    )


def host_reference(manifest: Manifest) -> Reference:
    """A tile of noise as the rehearsal labels it."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)
    votes = np.stack([pixels > 100, pixels > 120]).astype(np.uint8)
    tile = reference_tile("noise", pixels, votes[0], votes, 2)
    return Reference(origin="synthetic", model_sha256=manifest.model_sha256, tiles=[tile])
