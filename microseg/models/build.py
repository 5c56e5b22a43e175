"""Networks from a run's recipe: new, or with the weights that training left."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from microseg.core.errors import InputError
from microseg.core.schemas.run import RunRecord, RunSummary
from microseg.core.system.files import sha256_of
from microseg.models.deeplab import DeepLabV2
from microseg.models.network import Network
from microseg.models.unet import UNet


def build_network(encoder: Mapping[str, Any], network: Mapping[str, Any], phases: int, heads: int = 1) -> Network:
    """The network that a recipe's `encoder` and `network` describe, with its initial weights. Raises InputError.

    heads: of a student, one for each fold of its bag.
    """
    name, weights = encoder["name"], encoder["weights"]
    match network["kind"]:
        case "unet":
            return UNet(name, phases, weights, tuple(network["decoder_channels"]), heads)
        case "deeplabv2":
            auxiliary = network["auxiliary_loss"] > 0
            return DeepLabV2(name, phases, weights, network["aspp_branches"], auxiliary, heads)
        case other:
            raise InputError(f"network.kind {other!r}: this version knows unet and deeplabv2.")


def load_folds(run: Path, record: RunRecord, summary: RunSummary) -> list[Network]:
    """A run's networks in evaluation mode, on the CPU: one for each fold, or a student with a head for each.

    Raises InputError where a file is not what training wrote.
    """
    # The trained weights replace the initial ones, which need not be at hand any more.
    encoder = record.recipe["encoder"] | {"weights": "none"}
    networks = []
    heads = 1 if record.distillation is None else record.folds
    for folder, info in zip(record.folders, summary.folds[::heads], strict=True):
        path = run / folder / "model.safetensors"
        if not path.is_file() or sha256_of(path) != info.weights_sha256:
            raise InputError(f"{path}: is missing or not what training wrote. Remedy: restore it or train again.")
        network = build_network(encoder, record.recipe["network"], len(record.phases), heads)
        network.load_state_dict(load_file(path))
        networks.append(network.eval())
    return networks
