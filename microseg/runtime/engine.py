"""What an engine is to the station."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, Self

from microseg.runtime.runtime_config import RuntimeConfig

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from microseg.core.schemas.manifest import Manifest


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
    """A loaded engine. `provider` names what computes, `version` the runtime's; `runs` counts the calls so far.

    Calls may come from as many threads at a time as `config` has streams.
    """

    manifest: Manifest
    config: RuntimeConfig
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
