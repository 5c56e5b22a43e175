"""What costs minutes: the target's own statistics in every batch normalisation, folded into the weights."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from microseg.models.network import Network


def with_target_statistics(network: Network, cuts: Sequence[NDArray[np.uint8]], share: float) -> None:
    """Mix the running statistics, in place, with those of target views uint8 (h, w): `share` of the target's own.

    AdaBN (Li et al. 2016) for share 1; mixed as Schneider et al. (2020) propose for few fields. The views pass as one batch,
    mirrored to the size of the largest, so that what sets one field apart from another is part of the variance.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not share or not norms:
        return
    kept = [(norm.running_mean.clone(), norm.running_var.clone(), norm.momentum) for norm in norms]  # type: ignore[union-attr]
    # Of a bottleneck of one pixel there are no statistics.
    height, width = np.max([cut.shape for cut in cuts], axis=0).clip(min=2 * network.stride)
    mirrored = [np.pad(cut, ((0, height - cut.shape[0]), (0, width - cut.shape[1])), "symmetric") for cut in cuts]
    together = torch.from_numpy(np.stack(mirrored)[:, None])
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(together.to(next(network.parameters()).device))
    for norm, (mean, variance, momentum) in zip(norms, kept, strict=True):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(torch.lerp(mean, norm.running_mean, share))
        norm.running_var.copy_(torch.lerp(variance, norm.running_var, share))
        norm.momentum = momentum
    network.eval()
