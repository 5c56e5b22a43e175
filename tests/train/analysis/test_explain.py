"""Grad-CAM: it points at what decides, on a network whose reasons are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from microseg.models.deeplab import DeepLabV2
from microseg.models.network import Network, NetworkOutput
from microseg.models.unet import UNet
from microseg.train.analysis.explain import default_layer, explain, grad_cam
from tests.chain import microseg


class BrightPixels(Network):
    """Phase 1 where a pixel is bright: the encoder's one feature is brightness above 150, another one is darkness."""

    def __init__(self) -> None:
        super().__init__("resnet18", 2, 8)
        conv = nn.Conv2d(1, 2, 1)
        conv.load_state_dict(
            {"weight": torch.tensor([1.0, -1.0]).view(2, 1, 1, 1), "bias": torch.tensor([-150.0, 100.0])}
        )
        self.encoder = nn.Sequential(conv, nn.ReLU())

    def forward(self, tiles: Tensor) -> NetworkOutput:
        bright, dark = self.encoder(tiles.float()).split(1, 1)
        return NetworkOutput(torch.cat([dark, bright], 1), torch.zeros(len(tiles), 1))


def test_heat_lies_where_the_reason_is() -> None:
    image = np.full((50, 70), 60, np.uint8)
    image[20:30, 40:60] = 220
    network = BrightPixels()
    predicted, heat = grad_cam(network, network.encoder, image, 1)
    inside = np.zeros(image.shape, bool)
    inside[20:30, 40:60] = True
    assert np.array_equal(predicted == 1, inside)
    assert heat.dtype == np.float32 and heat.shape == image.shape
    assert heat[inside].min() > 0.99 and heat[~inside].max() < 0.01
    _, dark = grad_cam(network, network.encoder, image, 0)
    assert dark[~inside].min() > 0.99 and dark[inside].max() < 0.01


def test_a_phase_that_is_nowhere_has_no_heat() -> None:
    network = BrightPixels()
    predicted, heat = grad_cam(network, network.encoder, np.full((16, 16), 60, np.uint8), 1)
    assert not predicted.any()
    assert not heat.any()


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (lambda: DeepLabV2("resnet101", 2, "none"), "layer3.16"),
        (lambda: DeepLabV2("resnet18", 2, "none"), "layer3.1"),
        (lambda: DeepLabV2("tf_efficientnet_lite0", 2, "none"), "blocks.5.3"),
        (lambda: UNet("tf_efficientnet_lite0", 2, "none", (8, 8, 8)), None),
        (lambda: UNet("vgg16", 2, "none", (8, 8, 8, 8, 8)), "features.29"),
        (lambda: UNet("resnet18", 2, "none", (8, 8, 8, 8, 8)), "layer3.1"),
    ],
)
def test_every_encoder_has_a_default_layer(network: object, layer: str | None) -> None:
    built = network()  # type: ignore[operator]
    found = default_layer(built)
    assert layer is None or found == layer
    _, heat = grad_cam(built, dict(built.encoder.named_modules())[found], np.full((64, 64), 90, np.uint8), 0)
    assert heat.shape == (64, 64)


def test_pictures_of_a_domain_and_of_a_folder(trained: Path, unseen: Path, tmp_path: Path) -> None:
    outcome = microseg("explain", trained, unseen, "--out", tmp_path / "a", "--phase", "ferrite", "--fold", "1")
    assert outcome.status == 0, outcome.err
    assert "2 pictures of 'ferrite'" in outcome.out
    outcome = microseg("explain", trained, unseen / "images", "--out", tmp_path / "b")
    assert outcome.status == 0, outcome.err
    widths = []
    for folder in ("a", "b"):
        pictures = sorted((tmp_path / folder).rglob("*.png"))
        assert len(pictures) == 2
        with Image.open(pictures[0]) as image:
            widths.append(image.width)
    assert widths[0] > widths[1], "a labelled domain shows its labels too"


def test_pictures_of_one_name_do_not_replace_each_other(trained: Path, unseen: Path, tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / "in" / folder).mkdir(parents=True)
        shutil.copy(unseen / "images" / "s-1001-001.tif", tmp_path / "in" / folder / "a.tif")
    pictures = explain(trained, tmp_path / "in", tmp_path / "out")[2]
    assert sorted(path.relative_to(tmp_path / "out").as_posix() for path in pictures) == [
        "one/a.tif.png",
        "two/a.tif.png",
    ]
    assert all(path.is_file() for path in pictures)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--phase", "austenite"], "no such phase. Remedy: one of ferrite, lath-bainite"),
        (["--layer", "layer9"], "--layer layer9: the encoder has no such layer. Remedy: one of"),
        (["--fold", "7"], "no such fold. Remedy: 0 to 1"),
    ],
)
def test_what_cannot_be_explained_is_named(
    trained: Path, unseen: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    outcome = microseg("explain", trained, unseen, "--out", tmp_path / "out", *options)
    assert outcome.status == 2
    assert message in outcome.err
    assert not (tmp_path / "out").exists()
