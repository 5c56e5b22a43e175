from __future__ import annotations

import numpy as np
import torch
from torch import nn

from microseg.models.build import build_network
from microseg.train.normalise import with_target_statistics
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
