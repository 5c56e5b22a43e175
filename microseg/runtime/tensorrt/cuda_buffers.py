"""Streams, events and buffers of the CUDA runtime."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.runtime.tensorrt.device import CudaError, checked


class Lanes:
    """Three streams: up (host to device), compute, and down. Work on one overlaps with work on the others."""

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.up, self.compute, self.down = (self._new() for _ in range(3))

    def _new(self) -> Any:
        return checked(self._runtime, self._runtime.cudaStreamCreateWithFlags(self._runtime.cudaStreamNonBlocking))

    def wait(self) -> None:
        """Wait until no work is under way, whether it succeeds or not."""
        for stream in (self.up, self.compute, self.down):
            self._runtime.cudaStreamSynchronize(stream)

    def close(self) -> None:
        """Release the streams."""
        for stream in (self.up, self.compute, self.down):
            self._runtime.cudaStreamDestroy(stream)


class Slot:
    """Memory for one batch: page-locked on the host and on the device, one pair for each tensor.

    Args:
        runtime: the CUDA runtime.
        sizes: largest size of each tensor in bytes.

    Raises:
        CudaError: not enough memory.
    """

    def __init__(self, runtime: Any, sizes: Mapping[str, int]) -> None:
        self._runtime = runtime
        self._hosts: dict[str, int] = {}
        self.device: dict[str, int] = {}
        self._events: list[Any] = []
        try:
            for name, size in sizes.items():
                self._hosts[name] = checked(runtime, runtime.cudaHostAlloc(size, runtime.cudaHostAllocDefault))
                self.device[name] = checked(runtime, runtime.cudaMalloc(size))
            # A thread that waits sleeps; by default it spins on a core that reading and writing need.
            flags = runtime.cudaEventDisableTiming | runtime.cudaEventBlockingSync
            for _ in range(3):
                self._events.append(checked(runtime, runtime.cudaEventCreateWithFlags(flags)))
        except CudaError:
            self.close()
            raise
        self.uploaded, self.computed, self.downloaded = self._events

    def host(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
        """The host's memory of a tensor as an array. It is valid until the slot's next batch."""
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        raw = (ctypes.c_uint8 * count).from_address(self._hosts[name])
        return np.ctypeslib.as_array(raw).view(dtype).reshape(shape)

    def upload(self, name: str, content: NDArray[Any], lanes: Lanes) -> None:
        """Queue a tensor for the device. What is queued for computing afterwards waits for it."""
        runtime = self._runtime
        self.host(name, content.shape, content.dtype.type)[...] = content
        to_device = runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        checked(
            runtime,
            runtime.cudaMemcpyAsync(self.device[name], self._hosts[name], content.nbytes, to_device, lanes.up),
        )
        checked(runtime, runtime.cudaEventRecord(self.uploaded, lanes.up))
        checked(runtime, runtime.cudaStreamWaitEvent(lanes.compute, self.uploaded, 0))

    def download(self, sizes: Mapping[str, int], lanes: Lanes) -> None:
        """Queue the first bytes of tensors for the host, after what is queued for computing so far."""
        runtime = self._runtime
        checked(runtime, runtime.cudaEventRecord(self.computed, lanes.compute))
        checked(runtime, runtime.cudaStreamWaitEvent(lanes.down, self.computed, 0))
        to_host = runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        for name, size in sizes.items():
            checked(runtime, runtime.cudaMemcpyAsync(self._hosts[name], self.device[name], size, to_host, lanes.down))
        checked(runtime, runtime.cudaEventRecord(self.downloaded, lanes.down))

    def wait(self) -> None:
        """Wait until the last `download` has arrived."""
        checked(self._runtime, self._runtime.cudaEventSynchronize(self.downloaded))

    def close(self) -> None:
        """Release the memory."""
        for event in self._events:
            self._runtime.cudaEventDestroy(event)
        for address in self.device.values():
            self._runtime.cudaFree(address)
        for address in self._hosts.values():
            self._runtime.cudaFreeHost(address)


class CapturedGraph:
    """One launch for all kernels of a batch, captured from `enqueue` on `stream`. Raises CudaError."""

    def __init__(self, runtime: Any, stream: Any, enqueue: Any) -> None:
        self._runtime = runtime
        # Other threads use CUDA meanwhile.
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(runtime, runtime.cudaStreamBeginCapture(stream, mode))
        try:
            enqueue()
        except BaseException:
            with suppress(CudaError):
                checked(runtime, runtime.cudaStreamEndCapture(stream))
            raise
        graph = checked(runtime, runtime.cudaStreamEndCapture(stream))
        try:
            self._executable = checked(runtime, runtime.cudaGraphInstantiate(graph, 0))
        finally:
            runtime.cudaGraphDestroy(graph)

    def launch(self, stream: Any) -> None:
        """Queue the graph."""
        checked(self._runtime, self._runtime.cudaGraphLaunch(self._executable, stream))

    def close(self) -> None:
        """Release the graph."""
        self._runtime.cudaGraphExecDestroy(self._executable)
