"""The protocol of an engine: NumPy in, NumPy out."""

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
    """The outputs of an engine for N tiles of H x W.

    Attributes:
        labels: phase indices of the bag, uint8 (N, H, W).
        votes: phase indices of each fold, uint8 (N, F, H, W).
        features: pooled features of each fold, float32 (N, F, D); None unless asked for.
        probability: mean over the folds, float32 (N, P, H, W), 0-1; None unless asked for.
    """

    labels: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    features: NDArray[np.float32] | None = None
    probability: NDArray[np.float32] | None = None


class Engine(Protocol):
    """A loaded engine. As many threads as the configuration has streams may call it at once.

    Attributes:
        manifest: its description of itself.
        config: what computes it.
        version: version of the runtime.
        provider: what computes, as the runtime names it.
        runs: number of calls so far.
    """

    manifest: Manifest
    config: RuntimeConfig
    version: str
    provider: str
    runs: int

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment tiles.

        Args:
            tiles: grey values, uint8 (N, 1, H, W); H and W are multiples of the manifest's stride.
            features: whether to compute the features.
            probability: whether to compute the probability.

        Raises:
            FieldError: the computation fails, for want of memory for example.
        """
        ...

    def close(self) -> None:
        """Release memory and device. The engine cannot run afterwards. The end of a `with` block does the same."""
        ...

    def __enter__(self) -> Self:
        """The engine itself."""
        ...

    def __exit__(self, *error: object) -> None:
        """Close it."""
        ...
