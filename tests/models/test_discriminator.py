from __future__ import annotations

import torch
from torch import nn

from microseg.models.discriminator import Discriminator


def test_it_is_the_published_one() -> None:
    network = Discriminator(19)
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in convolutions] == [64, 128, 256, 512, 1]
    assert all(layer.kernel_size == (4, 4) and layer.stride == (2, 2) for layer in convolutions)
    # 16 weights a channel pair and a bias each.
    assert sum(p.numel() for p in network.parameters()) == 16 * (19 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 961
    assert network(torch.rand(2, 19, 128, 160)).shape == (2, 1, 4, 5)
