"""Fold networks -> one graph: uint8 tiles in; labels, votes, features and probability out. The only module here with torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from microseg.core.errors import InputError
from microseg.core.files import sha256_of
from microseg.core.runs import RunRecord, RunSummary
from microseg.models.unet import UNet

OPSET = 18
OUTPUTS = ("labels", "votes", "features", "probability")


class BagOutput(NamedTuple):
    """labels uint8 (N, H, W); votes uint8 (N, F, H, W); features float32 (N, F, D); probability float32 (N, P, H, W)."""

    labels: Tensor
    votes: Tensor
    features: Tensor
    probability: Tensor


class Bag(nn.Module):
    """Bagging as in Goetz et al. (2022): the mean of the folds' probabilities decides."""

    def __init__(self, networks: Sequence[UNet]) -> None:
        """Wrap trained networks of one shape."""
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, tiles: Tensor) -> BagOutput:
        """Tiles uint8 (N, 1, H, W), H and W multiples of the stride."""
        votes, features = [], []
        total: Tensor | None = None
        for network in self.networks:
            out = network(tiles)
            votes.append(out.logits.argmax(1).to(torch.uint8))
            features.append(out.features)
            soft = out.logits.softmax(1)
            total = soft if total is None else total + soft
        assert total is not None
        probability = total / len(self.networks)
        return BagOutput(
            probability.argmax(1).to(torch.uint8), torch.stack(votes, 1), torch.stack(features, 1), probability
        )


def build_onnx(networks: Sequence[UNet], path: Path) -> None:
    """Write the bag as ONNX (no metadata yet): N, H, W dynamic, weights inside the file."""
    bag = Bag([network.eval().cpu().to(memory_format=torch.contiguous_format) for network in networks]).eval()
    stride = networks[0].stride
    tiles = torch.zeros((2, 1, 4 * stride, 5 * stride), dtype=torch.uint8)
    shapes = {
        "tiles": {
            0: torch.export.Dim("n", min=1, max=1024),
            2: stride * torch.export.Dim("h", min=1, max=2048),
            3: stride * torch.export.Dim("w", min=1, max=2048),
        }
    }
    # The exporter prints its progress and warns about its own internals; neither is for our users.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            bag,
            (tiles,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["tiles"],
            output_names=list(OUTPUTS),
            dynamic_shapes=shapes,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    onnx.checker.check_model(model)
    onnx.save(model, path)


def load_bag(run: Path, record: RunRecord, summary: RunSummary) -> list[UNet]:
    """The folds' networks. Raises InputError where weights are not those that training wrote."""
    config = record.recipe["network"]
    networks = []
    for info in summary.folds:
        path = run / f"fold{info.index}" / "model.safetensors"
        if not path.is_file() or sha256_of(path) != info.weights_sha256:
            raise InputError(f"{path}: is missing or not what training wrote. Remedy: restore it or train again.")
        network = UNet(config["encoder"], len(record.phases), "none", tuple(config["decoder_channels"]))
        network.load_state_dict(load_file(path))
        networks.append(network.eval())
    return networks


def run_torch(networks: Sequence[UNet], tiles: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Each fold's probability, float32 (N, P, H, W), as torch computes it: what the engine is compared with."""
    with torch.inference_mode():
        batch = torch.from_numpy(tiles)
        return [network.eval().cpu()(batch).logits.softmax(1).numpy() for network in networks]
