"""The exponential moving average of a network's weights, which is scored and kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from torch import Tensor, nn


class WeightAverage:
    """Averaged weights of a network. They are updated in place, also inside a network that shares them."""

    def __init__(self, state: dict[str, Tensor], decay: float) -> None:
        """Begin with given weights.

        Args:
            state: Weights by name, as of `state_dict`.
            decay: Share of the average that a step keeps, 0 to 1. 0 follows the raw weights.
        """
        self.state = state
        self._decay = decay

    @classmethod
    def of(cls, network: nn.Module, decay: float) -> Self:
        """Begin with a copy of the network's weights."""
        return cls({key: value.detach().clone() for key, value in network.state_dict().items()}, decay)

    def update(self, network: nn.Module, step: int) -> None:
        """Take in the network's weights after a step (0, 1, ...).

        The average keeps less in the first steps, so that the initial weights fade.
        """
        keep = min(self._decay, (1 + step) / (10 + step)) if self._decay else 0.0
        for key, value in network.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[key].lerp_(value, 1 - keep)
            else:
                self.state[key].copy_(value)

    @contextmanager
    def loaded_into(self, network: nn.Module) -> Iterator[None]:
        """The network holds the average inside the block, and its own weights again after it."""
        own = {key: value.detach().clone() for key, value in network.state_dict().items()}
        network.load_state_dict(self.state)
        try:
            yield
        finally:
            network.load_state_dict(own)
