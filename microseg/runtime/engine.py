"""What an engine is to the station."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from microseg.runtime.choice import Choice, Device, Runtime, choose
from microseg.runtime.container import read_manifest

if TYPE_CHECKING:
    from microseg.core.manifest import Manifest


@dataclass(frozen=True)
class EngineOutput:
    """What an engine says about N tiles of H x W.

    labels: uint8 (N, H, W), the bag's phase indices. votes: uint8 (N, F, H, W), each fold's.
    features: float32 (N, F, D) and probability: float32 (N, P, H, W), None unless asked for.
    """

    labels: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    features: NDArray[np.float32] | None = None
    probability: NDArray[np.float32] | None = None


class Engine(Protocol):
    """A loaded engine. `provider` names what computes, `version` the runtime's; `runs` counts the calls so far."""

    manifest: Manifest
    choice: Choice
    version: str
    provider: str
    runs: int

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment `tiles`, uint8 (N, 1, H, W), H and W multiples of the manifest's stride.

        Raises FieldError where the computation fails (memory).
        """
        ...

    def close(self) -> None:
        """Give back memory and device; the engine cannot run any more. The end of a `with` block does it too."""
        ...

    def __enter__(self) -> Self:
        """The engine itself."""
        ...

    def __exit__(self, *error: object) -> None:
        """Close it."""
        ...


def open_engine(
    path: Path,
    threads: int | None = None,
    device: Device | None = None,
    runtime: Runtime | None = None,
    streams: int = 1,
) -> Engine:
    """Load an engine. `threads`: of the CPU; None leaves this, device and runtime to `choose`. streams: as in `Choice`.

    Raises InputError: not an engine of ours, newer, damaged, weights outside the file, a plan for another card or
    version, a runtime or device that is not there or did not load. MissingExtraError where the runtime is not installed.
    """
    choice = choose(path, runtime, device, threads, streams)
    manifest = read_manifest(path)
    load, make = _engine_for(choice)
    return make(path, manifest, choice, load(path, choice))


def begin_loading(executor: Executor, path: Path, choice: Choice) -> Callable[[Manifest], Engine]:
    """Start to load the network, which takes long and needs no manifest; the result waits for it.

    Raises MissingExtraError where the runtime is not installed; the result, which is to get what `read_manifest`
    returned, raises as `open_engine` does.
    """
    load, make = _engine_for(choice)
    loaded = executor.submit(load, path, choice)
    return lambda manifest: make(path, manifest, choice, loaded.result())


def _engine_for(
    choice: Choice,
) -> tuple[Callable[[Path, Choice], Any], Callable[[Path, Manifest, Choice, Any], Engine]]:
    """What loads a network in this runtime, and what makes an engine of it: the one place that knows the runtimes."""
    match choice.runtime:
        case "onnxruntime":
            from microseg.runtime.onnx_engine import OnnxEngine, open_session

            return open_session, OnnxEngine
        case "openvino":
            from microseg.runtime.openvino_engine import OpenVinoEngine, compile_network

            return compile_network, OpenVinoEngine
        case "tensorrt":
            from microseg.runtime.tensorrt_open import open_plan

            # Whose card and version a plan is for is in its manifest, so nothing of it is loaded before.
            return (lambda path, choice: None), (lambda path, manifest, choice, _: open_plan(path, manifest, choice))
