"""What an engine is to the station."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from microseg.runtime.container import is_plan, read_manifest

if TYPE_CHECKING:
    from microseg.core.manifest import Manifest

Device = Literal["cpu", "cuda"]


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
    """A loaded engine. `provider` names what computes; `runs` counts the calls so far."""

    manifest: Manifest
    provider: str
    runs: int

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment `tiles`, uint8 (N, 1, H, W), H and W multiples of the manifest's stride.

        Raises FieldError where the computation fails (memory).
        """
        ...

    def close(self) -> None:
        """Give back what the engine holds."""
        ...


def open_engine(path: Path, threads: int | None = None, device: Device = "cpu") -> Engine:
    """Load an engine. `threads`: CPU threads, by default one per physical core. A plan always runs on the GPU.

    Raises InputError: not an engine of ours, newer, damaged, a device that is not there. MissingExtraError without
    ONNX Runtime or, for a plan, TensorRT.
    """
    manifest = read_manifest(path)
    if is_plan(path):
        from microseg.runtime.tensorrt_open import open_plan

        return open_plan(path, manifest)
    from microseg.runtime.onnx_engine import OnnxEngine, open_session

    return OnnxEngine(path, manifest, open_session(path, threads, device))


def begin_loading(
    executor: Executor, path: Path, threads: int | None = None, device: Device = "cpu"
) -> Callable[[Manifest], Engine]:
    """Start to load the network, which takes long and needs no manifest; the result waits for it.

    Raises MissingExtraError without ONNX Runtime; the result, which is to get what `read_manifest` returned, raises
    as `open_engine` does.
    """
    if is_plan(path):
        # Whose card and version it is for is in the manifest, so a plan cannot begin without.
        from microseg.runtime.tensorrt_open import open_plan

        return lambda manifest: open_plan(path, manifest)
    from microseg.runtime.onnx_engine import OnnxEngine, open_session

    session = executor.submit(open_session, path, threads, device)
    return lambda manifest: OnnxEngine(path, manifest, session.result())
