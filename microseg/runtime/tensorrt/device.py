"""The NVIDIA device, looked for by the CUDA runtime alone: TensorRT must not be touched before one is known to be there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from microseg.core.errors import InputError, MissingExtraError


@dataclass(frozen=True)
class GpuInfo:
    """A device: its name, compute capability ("8.6"), and the newest CUDA ("13.0") that its driver serves."""

    name: str
    compute_capability: str
    cuda_driver: str


def cuda_runtime(extra: str) -> Any:
    """The module `cuda.bindings.runtime`, which `extra` brings. Raises MissingExtraError."""
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise MissingExtraError("Looking for an NVIDIA GPU", extra) from error
    return runtime


def find_gpu(extra: str) -> GpuInfo | None:
    """The first device that this process may use, or None where there is no device or no driver.

    Raises MissingExtraError, which names `extra`, without the CUDA bindings.
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
    """`find_gpu`, with the device taken into use; InputError says what needs it, why it cannot be had, and the remedy."""
    runtime = cuda_runtime(extra)
    try:
        gpu = find_gpu(extra)
        if gpu is not None:
            # One that is listed may still refuse: another process has it alone, its memory is full, it is broken. On such
            # a device, too, a call of TensorRT ends the interpreter.
            checked(runtime, runtime.cudaSetDevice(0))
            checked(runtime, runtime.cudaFree(0))
    except CudaError as error:
        raise InputError(
            f"{what} needs the NVIDIA GPU of this machine, which cannot be used ({error}). {remedy}"
        ) from error
    if gpu is None:
        status = runtime.cudaGetDeviceCount()[0]
        # CUDA says of a machine without driver that its driver is too old.
        has_driver = bool(runtime.cudaDriverGetVersion()[1])
        reason = runtime.cudaGetErrorString(status)[1].decode() if has_driver else "no driver"
        raise InputError(f"{what} needs an NVIDIA GPU and its driver, and none is found here ({reason}). {remedy}")
    return gpu


class CudaError(Exception):
    """A call of the CUDA runtime failed; its words are CUDA's."""


def checked(runtime: Any, result: tuple[Any, ...]) -> Any:
    """The value of a call of the CUDA runtime, which returns (status, value, ...). Raises CudaError."""
    status, *values = result
    if status != runtime.cudaError_t.cudaSuccess:
        raise CudaError(runtime.cudaGetErrorString(status)[1].decode())
    return values[0] if values else None
