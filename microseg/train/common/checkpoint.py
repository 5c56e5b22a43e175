"""A fold's state on disk: safetensors for tensors, JSON for the rest. Nothing in it can run code on load."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from microseg.core.errors import InputError
from microseg.core.system.files import replacing, write_json

STATE = "state.json"


@dataclass
class FoldState:
    """How far the training of a fold is.

    step: Steps done.
    running: Sum of the losses since the last row of the learning curve.
    seconds: Time of training, interruptions left out.
    history: Rows of the learning curve.
    best: The row of the snapshot that is kept.
    scaler: The loss scale, in fp16.
    sums, counts: Sums and numbers of several losses since the last row, by name.
    """

    step: int = 0
    running: float = 0.0
    seconds: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=dict)
    scaler: dict[str, Any] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)


def save_model(path: Path, state: dict[str, Tensor]) -> None:
    """Write weights by name to a safetensors file, atomically. Raises OSError."""
    with replacing(path) as part:
        try:
            save_file({key: value.contiguous() for key, value in state.items()}, part)
        except SafetensorError as error:
            # The library tells a full disk by its own error, with the system's number in its text.
            number = re.search(r"\(os error (\d+)\)", str(error))
            if number is None:
                raise
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error


def load_model(path: Path, network: nn.Module) -> None:
    """Load all weights of a network from a safetensors file. Raises InputError that names the file."""
    try:
        network.load_state_dict(load_file(path))
    except Exception as error:
        raise InputError(
            f"{path}: does not hold the weights of this run's network ({error}). Remedy: restore the file, or train again."
        ) from error


def save_state(
    folder: Path,
    state: FoldState,
    network: nn.Module,
    averaged: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Write everything that a resumed run needs.

    The JSON file names the file of the tensors, so that a kill in between leaves the pair before.

    Args:
        folder: Folder of the state.
        state: How far training is.
        network: The network, with the raw weights.
        averaged: The averaged weights.
        optimiser: The optimiser.
    """
    tensors = {f"network.{key}": value for key, value in network.state_dict().items()}
    tensors |= {f"averaged.{key}": value for key, value in averaged.items()}
    for index, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{key}": value for key, value in entry.items()}
    name = f"step-{state.step:07d}.safetensors"
    save_model(folder / name, tensors)
    write_json(folder / STATE, {"tensors": name} | asdict(state))
    for old in folder.glob("step-*.safetensors"):
        if old.name != name:
            old.unlink()


def load_average(folder: Path, network: nn.Module) -> None:
    """Load the averaged weights of a saved state into a network.

    Args:
        folder: Folder of the state.
        network: The network.
    """
    name = json.loads((folder / STATE).read_text(encoding="utf-8"))["tensors"]
    tensors = load_file(folder / name)
    network.load_state_dict({k.removeprefix("averaged."): v for k, v in tensors.items() if k.startswith("averaged.")})


def load_state(
    folder: Path, network: nn.Module, averaged: dict[str, Tensor], optimiser: torch.optim.Optimizer
) -> FoldState:
    """Restore what `save_state` wrote, in place. Returns a new state where there is nothing yet."""
    if not (folder / STATE).is_file():
        return FoldState()
    found = json.loads((folder / STATE).read_text(encoding="utf-8"))
    tensors = load_file(folder / found.pop("tensors"))
    network.load_state_dict({k.removeprefix("network."): v for k, v in tensors.items() if k.startswith("network.")})
    for key in averaged:
        averaged[key].copy_(tensors[f"averaged.{key}"])
    entries: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser."):
            _, index, name = key.split(".", 2)
            entries.setdefault(int(index), {})[name] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": entries})
    return FoldState(**found)
