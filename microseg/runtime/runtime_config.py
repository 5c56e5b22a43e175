"""The runtime and the device of an engine, by the user's options, the file and the hardware."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from microseg.core.errors import InputError, MissingExtraError
from microseg.core.system.processor_count import compute_threads, usable_processors
from microseg.runtime.driver import gpu_present
from microseg.runtime.engine_file import EngineFile
from microseg.runtime.onnxruntime_library import onnxruntime_library

Runtime = Literal["onnxruntime", "openvino", "tensorrt"]
Device = Literal["cpu", "cuda", "tensorrt"]


@dataclass(frozen=True)
class RuntimeConfig:
    """What computes an engine.

    Attributes:
        runtime: the library.
        device: what computes; `tensorrt` is ONNX Runtime's TensorRT execution provider.
        threads: CPU threads of the network; None leaves them to the runtime, which takes one for each physical core.
        streams: calls that may be under way at once on the CPU, each with its share of the threads. OpenVINO shares the tiles
            of one call among them too. 1 on other devices.
    """

    runtime: Runtime
    device: Device
    threads: int | None
    streams: int = 1


def choose(
    source: Path | EngineFile,
    runtime: Runtime | None = None,
    device: Device | None = None,
    threads: int | None = None,
    streams: int = 1,
) -> RuntimeConfig:
    """What computes an engine; nothing is loaded. None leaves a value to the file and the hardware.

    TensorRT computes a `.plan`. ONNX Runtime computes an ONNX file, on the GPU where there is one and the installed ONNX
    Runtime serves it, else on the CPU. OpenVINO computes an INT8 engine on an x86 processor where it is installed, but not
    one with symmetric activations (for TensorRT): its own passes over such a graph change the labels.

    Args:
        source: the engine's file.
        runtime: the library.
        device: what computes.
        threads: CPU threads of the network.
        streams: as in `RuntimeConfig`.

    Raises:
        InputError: the options exclude each other or do not fit the file, or there are more threads than processors.
        MissingExtraError: the runtime is not installed.
    """
    if threads is not None and threads > (processors := usable_processors()):
        raise InputError(
            f"--threads {threads}: this process may use {processors} processors, and more threads only take turns. Remedy: at "
            f"most --threads {processors}, or leave it out."
        )
    file = EngineFile.of(source)
    path = file.path
    if file.is_plan:
        if runtime not in (None, "tensorrt") or device not in (None, "cuda"):
            raise InputError(
                f"{path}: a plan runs with --runtime tensorrt and --device cuda alone. Remedy: leave both out, or give "
                "the .onnx file that it is built from."
            )
        return RuntimeConfig("tensorrt", "cuda", threads)
    if runtime == "tensorrt":
        raise InputError(
            f"{path}: --runtime tensorrt runs .plan files. Remedy: --device tensorrt, which lets ONNX Runtime hand an "
            ".onnx file to TensorRT, or build a plan: microseg export ENGINE.onnx --out ENGINE.plan."
        )
    if runtime == "openvino" and device not in (None, "cpu"):
        raise InputError(f"--runtime openvino computes on the CPU, not on {device}. Remedy: --device cpu.")
    taken = runtime or _runtime_for(file, device)
    _require(taken)
    if taken == "openvino":
        if _activations(file) == "symmetric":
            raise InputError(
                f"{path}: is quantised without zero points, for TensorRT, and OpenVINO changes the labels of such engines. "
                "Remedy: --runtime onnxruntime, or export it without --symmetric."
            )
        return RuntimeConfig(taken, "cpu", threads or compute_threads(), streams)
    on = device or _device()
    return RuntimeConfig(taken, on, threads or compute_threads(), streams if on == "cpu" else 1)


def cpu_runtimes() -> list[Runtime]:
    """The installed runtimes that can compute an ONNX engine on the CPU."""
    runtimes: tuple[Runtime, ...] = ("onnxruntime", "openvino")
    return [name for name in runtimes if find_spec(name) is not None]


def _runtime_for(file: EngineFile, device: Device | None) -> Runtime:
    has_openvino = find_spec("openvino") is not None
    if find_spec("onnxruntime") is None:
        return "openvino" if has_openvino and device in (None, "cpu") else "onnxruntime"
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    if has_openvino and is_x86 and (device or _device()) == "cpu" and _activations(file) == "asymmetric":
        return "openvino"
    return "onnxruntime"


def _activations(file: EngineFile) -> str | None:
    """How the activations of an INT8 engine are quantised, from the unchecked manifest: a damaged one is reported later."""
    made = file.unchecked_manifest.get("quantisation")
    return str(made["activations"]) if isinstance(made, dict) and "activations" in made else None


def _device() -> Device:
    if not gpu_present():
        return "cpu"
    return "cuda" if "CUDAExecutionProvider" in onnxruntime_library().get_available_providers() else "cpu"


def _require(runtime: Runtime) -> None:
    if find_spec(runtime) is None:
        extra = "openvino" if runtime == "openvino" else "cpu"
        raise MissingExtraError(f"Running an engine with {runtime}", extra)
