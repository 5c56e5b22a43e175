"""Networks from a run's recipe: new ones, or with the weights of a trained run."""

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
    """Build the network that a recipe describes, with its initial weights.

    Args:
        encoder: The recipe's `encoder`: `name` and `weights`.
        network: The recipe's `network`: `kind` and its keys.
        phases: Number of phases.
        heads: Number of heads: 1, or of a student one for each fold of its bag.

    Raises:
        InputError: The encoder or its weights do not exist, or the kind is unknown.
    """
    name, weights = encoder["name"], encoder["weights"]
    match network["kind"]:
        case "unet":
            return UNet(name, phases, weights, tuple(network["decoder_channels"]), heads)
        case "deeplabv2":
            auxiliary = network["auxiliary_loss"] > 0
            return DeepLabV2(name, phases, weights, network["aspp_branches"], auxiliary, heads)
        case other:
            raise InputError(f"network.kind {other!r}: unknown. Remedy: unet or deeplabv2.")


def load_folds(run: Path, record: RunRecord, summary: RunSummary) -> list[Network]:
    """Load the networks of a finished run, in evaluation mode, on the CPU.

    Args:
        run: The run folder.
        record: Its record.
        summary: Its summary.

    Returns:
        One network for each fold; of a student one network with a head for each fold.

    Raises:
        InputError: A weights file is missing, or is not the one that training wrote.
    """
    # The trained weights replace the initial ones, so that these files are not needed.
    encoder = record.recipe["encoder"] | {"weights": "none"}
    networks = []
    heads = 1 if record.distillation is None else record.folds
    for folder, info in zip(record.folders, summary.folds[::heads], strict=True):
        path = run / folder / "model.safetensors"
        if not path.is_file() or sha256_of(path) != info.weights_sha256:
            raise InputError(
                f"{path}: is missing, or is not the file that training wrote. Remedy: restore it, or train again."
            )
        network = build_network(encoder, record.recipe["network"], len(record.phases), heads)
        network.load_state_dict(load_file(path))
        networks.append(network.eval())
    return networks
