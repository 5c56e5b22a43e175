"""The adversarial step of AdaptSegNet (Tsai et al. 2018): network against frozen discriminators, then discriminators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from microseg.train.uda.losses import SOURCE_LABEL, TARGET_LABEL, domain_loss

AdversarialLoss = Literal["bce", "least_squares"]


def unscaled(loss: Tensor) -> Tensor:
    """The loss as it is, for precisions that need no scaled loss."""
    return loss


def adversarial_backward(
    discriminators: Sequence[nn.Module],
    source_maps: Sequence[Tensor],
    target_maps: Sequence[Tensor],
    weights: Sequence[float],
    loss: AdversarialLoss,
    scaled: Callable[[Tensor], Tensor] = unscaled,
) -> tuple[list[float], list[float]]:
    """Back-propagate the adversarial loss of each head into the network, and the discriminators' own losses.

    As published, the network first learns to make a frozen discriminator call the target a source. Then the discriminator
    learns from detached maps, with half of each domain's loss. One forward pass on the target serves both, because the
    discriminator's weights do not change in between. Gradients add up; the caller takes the optimiser's step.

    Args:
        discriminators: One for each head.
        source_maps: Maps (N, P, H, W) of source tiles, one for each head. Only their values are used.
        target_maps: Maps (N, P, H, W) of target tiles with their graph, one for each head.
        weights: Weights of the adversarial losses, one for each head. 0 leaves the network alone.
        loss: Binary cross-entropy, or least squares (Mao et al. 2017).
        scaled: Scales a loss for fp16.

    Returns:
        The adversarial losses and the discriminators' losses, one for each head, unweighted.
    """
    fooled: list[float] = []
    learned: list[float] = []
    into: list[Tensor] = []
    for network, source, target, weight in zip(discriminators, source_maps, target_maps, weights, strict=True):
        leaf = target.detach().requires_grad_()
        logits = network(leaf)
        fool = domain_loss(logits, SOURCE_LABEL, loss)
        into += torch.autograd.grad(scaled(weight * fool), leaf, retain_graph=True)
        of_target = 0.5 * domain_loss(logits, TARGET_LABEL, loss)
        scaled(of_target).backward(inputs=list(network.parameters()))  # type: ignore[no-untyped-call]
        of_source = 0.5 * domain_loss(network(source.detach()), SOURCE_LABEL, loss)
        scaled(of_source).backward()  # type: ignore[no-untyped-call]
        fooled.append(float(fool.detach()))
        learned.append(float(of_target.detach()) + float(of_source.detach()))
    if any(weights):
        torch.autograd.backward(target_maps, into)
    return fooled, learned


def attention(discriminator: Callable[[Tensor], Tensor], maps: Tensor, loss: AdversarialLoss) -> Tensor:
    """The attention of DAST (Yu et al. 2021): how sure a discriminator is that pixels are of the target.

    Args:
        discriminator: Gives (N, 1, h, w) of maps.
        maps: Maps (N, P, H, W) of target tiles.
        loss: The loss that the discriminator learns by.

    Returns:
        0 to 1, (N, H, W).
    """
    with torch.no_grad():
        found = discriminator(maps.detach())
        # Least squares teaches the label itself, not its logit.
        found = torch.sigmoid(found) if loss == "bce" else found.clamp(0, 1)
        size = (maps.shape[-2], maps.shape[-1])
        return nn.functional.interpolate(found, size=size, mode="bilinear", align_corners=False)[:, 0]
