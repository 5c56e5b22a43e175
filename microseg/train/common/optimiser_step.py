"""The guarded optimiser step that every training loop takes: reduced precision, scaled loss, and errors in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microseg.core.errors import TrainingError
from microseg.models.network import Network
from microseg.train.common.recipe import Optimiser


def training_device() -> torch.device:
    """The GPU of this process, or the CPU where there is none."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def reduced_precision(device: torch.device) -> torch.dtype | None:
    """The type of the forward pass: bf16 on a GPU that has it, else fp16, which needs a scaled loss. None on a CPU: fp32."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def adamw(network: Network, rates: Optimiser, *others: dict[str, Any]) -> torch.optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019) and the encoder at a rate of its own.

    Args:
        network: The network to train.
        rates: The recipe's rates and weight decay.
        others: More parameter groups, such as those of discriminators.
    """
    groups = network.parameter_groups(rates.learning_rate * rates.encoder_factor, rates.learning_rate)
    return torch.optim.AdamW([*groups, *others], weight_decay=rates.weight_decay)


class OptimiserStep:
    """One step of an optimiser after another. Every loop calls `begin`, `backward` (once or more) and `finish`."""

    def __init__(
        self,
        optimiser: torch.optim.Optimizer,
        device: torch.device,
        folder: Path,
        *,
        mixed_precision: bool,
        rate_key: str = "optimiser.learning_rate",
    ) -> None:
        """Keep the optimiser's base rates.

        Args:
            optimiser: Holds the parameters at their base rates.
            device: Where the network is.
            folder: The run's or fold's folder, for messages.
            mixed_precision: Whether the forward pass may use `reduced_precision`.
            rate_key: The recipe's key of the learning rate, for messages.
        """
        self.optimiser = optimiser
        self.device = device
        self._folder, self._rate_key = folder, rate_key
        self._base_rates = [group["lr"] for group in optimiser.param_groups]
        self._precision = reduced_precision(device) if mixed_precision else None
        self._scaler = torch.amp.GradScaler(device.type, enabled=self._precision == torch.float16)

    def begin(self, rate_factor: float = 1.0) -> None:
        """Clear the gradients and set the rates to `rate_factor` times their base values."""
        for group, rate in zip(self.optimiser.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * rate_factor
        self.optimiser.zero_grad(set_to_none=True)

    def autocast(self) -> torch.autocast:
        """The context of a forward pass."""
        return torch.autocast(self.device.type, self._precision, enabled=self._precision is not None)

    @contextmanager
    def memory_guard(self, batch: str, remedy: str) -> Iterator[None]:
        """Turn lack of memory inside the block into a TrainingError.

        Args:
            batch: What is on the device, such as `12 tiles of 636 px`.
            remedy: What to change.
        """
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise TrainingError(
                f"{self._folder}: out of memory on {self.device} with {batch}. Remedy: {remedy}."
            ) from error

    def scaled(self, loss: Tensor) -> Tensor:
        """The loss as it is back-propagated: scaled in fp16, as it is otherwise."""
        return self._scaler.scale(loss)

    def backward(self, loss: Tensor, inputs: Sequence[Tensor] | None = None) -> None:
        """Add the gradients of a loss to all parameters, or to `inputs` alone."""
        self.scaled(loss).backward(inputs=inputs)  # type: ignore[no-untyped-call]

    def finish(self, loss: float, step: int, kept_step: int, details: str = "") -> None:
        """Let the optimiser take its step.

        Args:
            loss: Value of the step's loss.
            step: Steps done with this one.
            kept_step: The last step whose weights are on disk, for the message.
            details: What the loss was computed on, for the message.

        Raises:
            TrainingError: The loss is infinite or not a number. The optimiser takes no step then.
        """
        if not math.isfinite(loss):
            rate = self.optimiser.param_groups[-1]["lr"]
            raise TrainingError(
                f"{self._folder}: the loss is {loss} at step {step}{details}, at a learning rate of {rate:.2e}. The weights "
                f"of step {kept_step} are kept. Remedy: a lower {self._rate_key} and another --out."
            )
        self._scaler.step(self.optimiser)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """The loss scale (fp16), for `restore`; empty otherwise."""
        return self._scaler.state_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the loss scale of an interrupted run."""
        if state:
            self._scaler.load_state_dict(state)
