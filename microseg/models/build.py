"""Networks from a run's recipe: new, or with the weights that training left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from microseg.core.errors import InputError
from microseg.core.files import sha256_of
from microseg.core.runs import RunRecord, RunSummary
from microseg.models.unet import UNet


def build_network(config: Mapping[str, Any], phases: int) -> UNet:
    """The network that a recipe's `network` describes, with its initial weights. Raises InputError."""
    return UNet(config["encoder"], phases, config["weights"], tuple(config["decoder_channels"]))


def load_folds(run: Path, record: RunRecord, summary: RunSummary) -> list[UNet]:
    """The folds' best networks in evaluation mode, on the CPU. Raises InputError where a file is not what training wrote."""
    # The trained weights replace the initial ones, which need not be at hand any more.
    config = record.recipe["network"] | {"weights": "none"}
    networks = []
    for info in summary.folds:
        path = run / f"fold{info.index}" / "model.safetensors"
        if not path.is_file() or sha256_of(path) != info.weights_sha256:
            raise InputError(f"{path}: is missing or not what training wrote. Remedy: restore it or train again.")
        network = build_network(config, len(record.phases))
        network.load_state_dict(load_file(path))
        networks.append(network.eval())
    return networks
