from __future__ import annotations

import numpy as np
import torch
from torch import nn

from microseg.models.build import build_network
from microseg.train.uda.normalise import with_target_statistics
from tests.chain import ENCODER, NETWORK


def test_statistics_are_mixed_and_nothing_else_changes() -> None:
    torch.manual_seed(0)
    cuts = [np.random.default_rng(i).integers(0, 255, (64, 64)).astype(np.uint8) for i in range(3)]
    states = []
    for share in (0.0, 0.5, 1.0):
        torch.manual_seed(0)
        network = build_network(ENCODER, {"kind": "unet"} | NETWORK, 2).eval()
        with_target_statistics(network, cuts, share)
        assert not any(module.training for module in network.modules())
        assert all(m.momentum is not None for m in network.modules() if isinstance(m, nn.BatchNorm2d))
        states.append(network.state_dict())
    start, half, whole = states
    for key, value in start.items():
        if key.endswith(("running_mean", "running_var")):
            assert torch.allclose(half[key], (value + whole[key]) / 2, atol=1e-5)
        elif not key.endswith("num_batches_tracked"):
            assert torch.equal(value, whole[key])
    assert any(not torch.equal(start[key], whole[key]) for key in start)


def test_every_layer_normalises_views_of_unlike_brightness_and_size_together() -> None:
    rng = np.random.default_rng(0)
    cuts = [
        rng.normal(mean, 15, (128, width)).clip(0, 255).astype(np.uint8)
        for mean, width in ((60, 128), (120, 160), (200, 128))
    ]
    torch.manual_seed(0)
    network = build_network(ENCODER, {"kind": "unet"} | NETWORK, 2).eval()
    with_target_statistics(network, cuts, 1.0)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    off: list[torch.Tensor] = []

    def check(norm: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3))
        expected = norm.running_var + norm.eps
        off.append(
            torch.stack([(mean - norm.running_mean) / expected.sqrt(), (variance - norm.running_var) / expected])
        )

    for norm in norms:
        norm.register_forward_pre_hook(check)
    with torch.no_grad():
        network(
            torch.from_numpy(
                np.stack([np.pad(cut, ((0, 0), (0, 160 - cut.shape[1])), "symmetric") for cut in cuts])[:, None]
            )
        )
    assert len(off) == len(norms)
    # Not 0: statistics are kept of samples, and layers are computed by those of the batch.
    assert float(torch.cat(off, dim=1).abs().max()) < 0.02


def test_a_single_view_no_larger_than_the_stride_has_statistics_too() -> None:
    network = build_network(ENCODER, {"kind": "unet"} | NETWORK, 2).eval()
    side = network.stride
    with_target_statistics(network, [np.arange(side * side).reshape(side, side).astype(np.uint8)], 1.0)
    state = network.state_dict()
    assert all(bool(state[key].isfinite().all()) for key in state if key.endswith(("running_mean", "running_var")))
