"""One test for every network: shapes, gradients, modes, sizes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from microseg.core.errors import InputError
from microseg.export.torch_graph import bag as graph
from microseg.models.deeplab import DeepLabV2
from microseg.models.network import FixedSameConv, Network
from microseg.models.unet import UNet

PHASES = 3
NETWORKS: dict[str, Callable[[], Network]] = {
    "unet-resnet18": lambda: UNet("resnet18", PHASES, "none", (16, 8, 8, 8, 8)),
    "unet-lite0": lambda: UNet("tf_efficientnet_lite0", PHASES, "none", (16, 8, 8, 8, 8)),
    "unet-lite0-shallow": lambda: UNet("tf_efficientnet_lite0", PHASES, "none", (16, 8, 8)),
    "unet-vgg16": lambda: UNet("vgg16", PHASES, "none", (16, 8, 8, 8, 8)),
    "deeplabv2-resnet18": lambda: DeepLabV2("resnet18", PHASES, "none", auxiliary=True),
    "deeplabv2-lite0": lambda: DeepLabV2("tf_efficientnet_lite0", PHASES, "none", aspp_branches=2),
}
# Tensors without values: what counts weights and sizes needs no seconds.
SHAPES_ALONE = torch.device("meta")


@pytest.fixture(scope="module", params=list(NETWORKS))
def network(request: pytest.FixtureRequest) -> Network:
    torch.manual_seed(0)
    return NETWORKS[request.param]()


def tiles(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, height, width), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_shapes_and_modes(network: Network) -> None:
    pixels = tiles(2 * network.stride, 3 * network.stride)
    network.eval()
    with torch.inference_mode():
        out = network(pixels)
        assert out.logits.shape == (2, PHASES, *pixels.shape[-2:])
        assert out.logits.dtype == out.features.dtype == torch.float32
        assert out.features.ndim == 2 and len(out.features) == 2
        assert torch.equal(out.logits, network(pixels).logits), "evaluation repeats itself"
        assert torch.equal(out.logits, network(pixels.float()).logits), "bytes and floats are the same grey values"
        assert torch.allclose(out.logits[:1], network(pixels[:1]).logits, atol=1e-4), "a tile does not see its batch"
        before = {key: value.clone() for key, value in network.state_dict().items()}
        network.train()
        assert not torch.allclose(out.logits, network(pixels).logits, atol=1e-4)
    network.load_state_dict(before)


def test_gradients_reach_every_weight_that_is_used(network: Network) -> None:
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.ones_(module.weight)  # timm starts residual branches at zero: no gradient in the first step
    out = network(tiles(2 * network.stride, 2 * network.stride))
    network.zero_grad()
    loss = out.logits.square().mean() + out.features.square().mean()
    if out.auxiliary is not None:
        loss = loss + out.auxiliary.square().mean()
    loss.backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not without


@pytest.mark.parametrize(("height", "width"), [(61, 83), (64, 95), (100, 64)])
def test_training_tiles_need_not_fit_the_stride(network: Network, height: int, width: int) -> None:
    """As the paper's 636 px: 20 strides less 4 px."""
    network.eval()
    pixels = tiles(height, width, 1)
    with torch.inference_mode():
        out = network.forward_any_size(pixels)
        assert out.logits.shape == (1, PHASES, height, width)
        fitting = tiles(64, 64, 1)
        assert torch.equal(network.forward_any_size(fitting).logits, network(fitting).logits)


def test_a_frozen_encoder_stays_as_it_is(network: Network) -> None:
    network.train()
    before = [weight.clone() for weight in network.encoder.parameters()]
    optimiser = torch.optim.Adam(network.parameter_groups(0.0, 1e-2))
    network(tiles(2 * network.stride, 2 * network.stride)).logits.square().mean().backward()
    optimiser.step()
    optimiser.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(before, network.encoder.parameters(), strict=True))


def test_the_exported_graph_says_what_torch_says(network: Network, tmp_path: Path) -> None:
    pixels = tiles(2 * network.stride, 3 * network.stride).numpy()
    graph.build_onnx([network], tmp_path / "bare.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "bare.onnx", providers=["CPUExecutionProvider"])
    (soft,) = session.run(["probability"], {"tiles": pixels})
    assert np.allclose(soft, graph.run_torch([network], pixels)[0], atol=1e-4)


def weights_of(module: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in module.parameters())


def dilations_of(network: DeepLabV2) -> list[int]:
    return [m.dilation[0] for m in network.classifier.modules() if isinstance(m, torch.nn.Conv2d)]


def test_deeplabv2_resnet101_is_adaptsegnets() -> None:
    """Counted by hand from the papers: ResNet-101 without its classifier, and one 3 x 3 per phase and dilation."""
    with SHAPES_ALONE:
        network = DeepLabV2("resnet101", 2, "none", auxiliary=True)
        narrow = DeepLabV2("resnet18", 2, "none", 2)
    resnet101, head, auxiliary = 44_549_160 - 2_049_000, 4 * 2 * (2048 * 9 + 1), 4 * 2 * (1024 * 9 + 1)
    assert weights_of(network) == resnet101 + head + auxiliary
    assert dilations_of(network) == [6, 12, 18, 24]
    assert dilations_of(narrow) == [6, 12]
    encoder: Any = network.encoder
    strides, dilations = {}, {}
    for name in ("layer1", "layer2", "layer3", "layer4"):
        convs = [m for m in getattr(encoder, name).modules() if isinstance(m, torch.nn.Conv2d)]
        dilations[name] = {conv.dilation[0] for conv in convs if conv.kernel_size == (3, 3)}
        strides[name] = max(conv.stride[0] for conv in convs)
    assert strides == {"layer1": 1, "layer2": 2, "layer3": 1, "layer4": 1}
    assert dilations == {"layer1": {1}, "layer2": {1}, "layer3": {2}, "layer4": {4}}
    before_last, last = encoder.eval()(torch.zeros(1, 3, 64, 80, device="meta"))
    assert (before_last.shape, last.shape) == ((1, 1024, 8, 10), (1, 2048, 8, 10))
    assert len(encoder.layer3) == 23, "the paper's Grad-CAM layer 3_16 exists"


def test_the_vgg16_unet_has_the_weights_that_its_layers_add_up_to() -> None:
    """VGG16 (Simonyan and Zisserman 2015, configuration D) without its classifier, and smp's decoder of five stages."""
    with SHAPES_ALONE:
        network = UNet("vgg16", 2, "none", (256, 128, 64, 32, 16))
    vgg16 = 138_357_544 - 123_642_856
    assert weights_of(network.encoder) == vgg16
    decoder, below = 2 * (9 * 512 * 512 + 2 * 512), 512  # two convolutions below the last pooling
    for skip, width in zip((512, 512, 256, 128, 0), (256, 128, 64, 32, 16), strict=True):
        decoder += 9 * width * (below + skip + width) + 2 * 2 * width
        below = width
    head = 2 * (16 * 9 + 1)
    assert weights_of(network) == vgg16 + decoder + head


def test_the_papers_tile_passes_both_networks() -> None:
    """636 px, which 32 does not divide."""
    pixels = tiles(636, 636, 1).to("meta")
    with SHAPES_ALONE:
        networks: list[Network] = [UNet("vgg16", 2, "none", (8, 8, 8, 8, 8)), DeepLabV2("resnet18", 2, "none")]
    for network in networks:
        with torch.inference_mode():
            assert network.eval().forward_any_size(pixels).logits.shape == (1, 2, 636, 636)


def test_groups_hold_every_weight_once(network: Network) -> None:
    encoder, rest = network.parameter_groups(1e-4, 1e-3)
    held = [*encoder["params"], *rest["params"]]  # type: ignore[misc]
    assert sorted(map(id, held)) == sorted(map(id, network.parameters()))
    assert (encoder["lr"], rest["lr"]) == (1e-4, 1e-3)


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 2), (3, 1)])
def test_fixed_padding_is_tensorflows_on_the_stride_grid(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    same = Conv2dSame(4, 6, kernel, stride=stride)
    fixed = FixedSameConv(same)
    for height, width in ((8, 8), (32, 48)):
        x = torch.randn(1, 4, height, width)
        assert torch.equal(fixed(x), same(x))


@pytest.mark.parametrize(("encoder", "channels"), [("no_such_net", (16, 8, 8)), ("resnet18", (16,) * 7)])
def test_what_cannot_be_built_is_named(encoder: str, channels: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=rf"encoder\.name '{encoder}'.*Remedy"):
        UNet(encoder, 2, "none", channels)


def test_a_dilated_encoder_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match=r"encoder\.name 'no_such_net'.*Remedy"):
        DeepLabV2("no_such_net", 2, "none")
