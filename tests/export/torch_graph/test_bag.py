"""The graph of a bag or a student says what its networks say, of two phases and of more."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("torch")

import torch

from microseg.export.precision.sessions import onnxruntime_session
from microseg.export.torch_graph import bag as graph
from microseg.export.torch_graph.bag import build_onnx, run_torch
from microseg.models.deeplab import DeepLabV2
from microseg.models.network import Network
from microseg.models.unet import UNet


def unet(phases: int, heads: int = 1) -> Network:
    """Two stages: what is tested comes after them, and each takes the exporter seconds."""
    return UNet("resnet18", phases, "none", (16, 8), heads)


@pytest.mark.parametrize(("phases", "heads", "count"), [(2, 1, 1), (2, 3, 1), (2, 1, 2), (3, 3, 1), (3, 1, 2)])
def test_labels_votes_and_probability(phases: int, heads: int, count: int, tmp_path: Path) -> None:
    torch.manual_seed(1)
    networks = [unet(phases, heads) for _ in range(count)]
    require_same(networks, phases, tmp_path / "bag.onnx")


def test_two_phases_of_a_dilated_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    require_same([DeepLabV2("resnet18", 2, "none")], 2, tmp_path / "bag.onnx")


def require_no_path_of_the_exporting_machine(path: Path) -> None:
    content = path.read_bytes()
    assert str(Path(graph.__file__).parent).encode() not in content and b"stack_trace" not in content
    model = onnx.load(path)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)


def require_same(networks: list[Network], phases: int, path: Path) -> None:
    for network in networks:
        for layer in network.last.modules():
            if isinstance(layer, torch.nn.Conv2d):  # so that phases are told apart
                torch.nn.init.normal_(layer.weight, 0, 0.3)
    build_onnx(networks, path)
    require_no_path_of_the_exporting_machine(path)
    stride = networks[0].stride
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 6 * stride, 4 * stride), np.uint8)
    names = ["labels", "votes", "probability"]
    labels, votes, probability = onnxruntime_session(onnx.load(path)).run(names, {"tiles": pixels})
    folds = np.stack(run_torch(networks, pixels), 1)
    assert len(np.unique(folds.argmax(2))) == phases
    np.testing.assert_allclose(probability, folds.mean(1), atol=1e-5)
    assert (votes != folds.argmax(2)).mean() < 1e-4
    mean = folds.mean(1)
    top, second = -np.sort(-mean, 1)[:, :2].swapaxes(0, 1)
    is_tie = top - second < 1e-5  # folds that contradict each other entirely: whoever rounds last decides
    assert (labels != mean.argmax(1))[~is_tie].mean() < 1e-4 and is_tie.mean() < 0.1
    assert {labels.dtype, votes.dtype} == {np.dtype(np.uint8)}
    assert votes.shape == folds.shape[:2] + labels.shape[1:]
