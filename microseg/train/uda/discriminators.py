"""The adversarial step of AdaptSegNet, in the published order: network with frozen discriminators, then discriminators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from microseg.train.uda.losses import SOURCE_LABEL, TARGET_LABEL, domain_loss

Loss = Literal["bce", "least_squares"]


def adversarial_backward(
    discriminators: Sequence[nn.Module],
    source_maps: Sequence[Tensor],
    target_maps: Sequence[Tensor],
    weights: Sequence[float],
    loss: Loss,
) -> tuple[list[float], list[float]]:
    """Back-propagate each head's adversarial loss into its target map, and the discriminators' own losses.

    Maps (N, P, H, W) of source (values alone are used) and target (with its graph), one of each for every head; `weights`
    of the adversarial losses. Gradients add up in the network and in the discriminators: step both afterwards. Returns
    (adversarial losses, discriminator losses), unweighted. As published, a frozen discriminator is asked to call the
    target a source; then it learns from detached maps, each domain's loss halved. One forward pass serves both,
    because its weights do not change in between.
    """
    fooled: list[float] = []
    learned: list[float] = []
    into: list[Tensor] = []
    for network, source, target, weight in zip(discriminators, source_maps, target_maps, weights, strict=True):
        leaf = target.detach().requires_grad_()
        logits = network(leaf)
        fool = domain_loss(logits, SOURCE_LABEL, loss)
        into += torch.autograd.grad(weight * fool, leaf, retain_graph=True)
        told = 0.5 * domain_loss(logits, TARGET_LABEL, loss)
        told.backward(inputs=list(network.parameters()))  # type: ignore[no-untyped-call]
        known = 0.5 * domain_loss(network(source.detach()), SOURCE_LABEL, loss)
        known.backward()  # type: ignore[no-untyped-call]
        fooled.append(float(fool.detach()))
        learned.append(float(told.detach()) + float(known.detach()))
    if any(weights):
        torch.autograd.backward(target_maps, into)
    return fooled, learned


def attention(discriminator: Callable[[Tensor], Tensor], maps: Tensor, loss: Loss) -> Tensor:
    """Where a discriminator still tells the target apart, (N, H, W), 0 to 1, of target maps (N, P, H, W)."""
    with torch.no_grad():
        told = discriminator(maps.detach())
        # Least squares teaches the label itself, not its logit.
        told = torch.sigmoid(told) if loss == "bce" else told.clamp(0, 1)
        size = (maps.shape[-2], maps.shape[-1])
        return nn.functional.interpolate(told, size=size, mode="bilinear", align_corners=False)[:, 0]
