"""One test for every network: shapes, gradients, modes, sizes."""

from __future__ import annotations

import pytest
import torch
from timm.layers.conv2d_same import Conv2dSame

from microseg.core.errors import InputError
from microseg.models.unet import FixedSameConv, UNet

NETWORKS = [
    ("resnet18", (16, 8, 8, 8, 8)),
    ("tf_efficientnet_lite0", (16, 8, 8, 8, 8)),
    ("tf_efficientnet_lite0", (16, 8, 8)),
]
PHASES = 3


@pytest.fixture(scope="module", params=NETWORKS, ids=[f"{name}-{len(channels)}" for name, channels in NETWORKS])
def network(request: pytest.FixtureRequest) -> UNet:
    torch.manual_seed(0)
    name, channels = request.param
    return UNet(name, PHASES, "none", channels)


def tiles(height: int, width: int, count: int = 2) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, height, width), generator=torch.Generator().manual_seed(1)).to(torch.uint8)


def test_shapes_and_modes(network: UNet) -> None:
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


def test_gradients_reach_every_weight_that_is_used(network: UNet) -> None:
    network.train()
    out = network(tiles(2 * network.stride, 2 * network.stride))
    network.zero_grad()
    (out.logits.square().mean() + out.features.square().mean()).backward()
    without = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert not without


@pytest.mark.parametrize(("height", "width"), [(61, 83), (64, 95), (100, 64)])
def test_training_tiles_need_not_fit_the_stride(network: UNet, height: int, width: int) -> None:
    """As the paper's 636 px: 20 strides less 4 px."""
    network.eval()
    pixels = tiles(height, width, 1)
    with torch.inference_mode():
        out = network.forward_any_size(pixels)
        assert out.logits.shape == (1, PHASES, height, width)
        fitting = tiles(64, 64, 1)
        assert torch.equal(network.forward_any_size(fitting).logits, network(fitting).logits)


def test_groups_hold_every_weight_once(network: UNet) -> None:
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
    with pytest.raises(InputError, match=rf"network\.encoder '{encoder}'.*Remedy"):
        UNet(encoder, 2, "none", channels)
