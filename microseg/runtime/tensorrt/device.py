"""The NVIDIA device, looked for with the CUDA runtime alone: without a device a call of TensorRT ends the process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from microseg.core.errors import InputError, MissingExtraError


@dataclass(frozen=True)
class GpuInfo:
    """A device.

    Attributes:
        name: its name.
        compute_capability: such as 8.6.
        cuda_driver: the newest CUDA that its driver serves, such as 13.0.
    """

    name: str
    compute_capability: str
    cuda_driver: str


def cuda_runtime(extra: str) -> Any:
    """The module `cuda.bindings.runtime`. Raises MissingExtraError, which names `extra`."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise MissingExtraError("Looking for an NVIDIA GPU", extra) from error
    return runtime


def find_gpu(extra: str) -> GpuInfo | None:
    """The first device that this process may use; None without device or driver.

    Args:
        extra: the extra that brings the CUDA bindings.

    Raises:
        MissingExtraError: without the CUDA bindings.
    """
    runtime = cuda_runtime(extra)
    status, count = runtime.cudaGetDeviceCount()
    if status != runtime.cudaError_t.cudaSuccess or not count:
        return None
    properties = checked(runtime, runtime.cudaGetDeviceProperties(0))
    version = checked(runtime, runtime.cudaDriverGetVersion())
    return GpuInfo(
        name=properties.name.decode(),
        compute_capability=f"{properties.major}.{properties.minor}",
        cuda_driver=f"{version // 1000}.{version % 1000 // 10}",
    )


def require_gpu(what: str, remedy: str, extra: str) -> GpuInfo:
    """The first device, taken into use.

    Args:
        what: what needs it, for the message.
        remedy: what to do without it, for the message.
        extra: the extra that brings the CUDA bindings.

    Raises:
        InputError: there is no device, or it cannot be used.
        MissingExtraError: without the CUDA bindings.
    """
    runtime = cuda_runtime(extra)
    try:
        gpu = find_gpu(extra)
        if gpu is not None:
            # A listed device may refuse: another process uses it exclusively, its memory is full, it is broken. There, too, a
            # call of TensorRT ends the process.
            checked(runtime, runtime.cudaSetDevice(0))
            checked(runtime, runtime.cudaFree(0))
    except CudaError as error:
        raise InputError(
            f"{what} needs the NVIDIA GPU of this machine, which cannot be used ({error}). {remedy}"
        ) from error
    if gpu is None:
        status = runtime.cudaGetDeviceCount()[0]
        # Without a driver CUDA reports one that is too old.
        has_driver = bool(runtime.cudaDriverGetVersion()[1])
        reason = runtime.cudaGetErrorString(status)[1].decode() if has_driver else "no driver"
        raise InputError(f"{what} needs an NVIDIA GPU and its driver, and none is found here ({reason}). {remedy}")
    return gpu


class CudaError(Exception):
    """A call of the CUDA runtime failed. The message is CUDA's."""


def checked(runtime: Any, result: tuple[Any, ...]) -> Any:
    """The value of a call of the CUDA runtime, which returns (status, value, ...). Raises CudaError."""
    status, *values = result
    if status != runtime.cudaError_t.cudaSuccess:
        raise CudaError(runtime.cudaGetErrorString(status)[1].decode())
    return values[0] if values else None
