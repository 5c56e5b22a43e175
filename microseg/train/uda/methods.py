"""The adaptation methods, one function each: forward pass, losses and backward pass of one step.

Every function adds gradients to the network (and the discriminators) and returns its losses by name. They are unweighted;
those of a second head are called NAME_auxiliary. `on_target` is the weighted sum of the losses on target tiles, to compare
with `segmentation`. The loop takes the step of the optimiser.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from microseg.models.network import Network, NetworkOutput
from microseg.train.common.losses import core_of
from microseg.train.common.self_training.pseudo_labels import (
    hide_patches,
    pixel_weights,
    pseudo_labels,
    weighted_cross_entropy,
)
from microseg.train.uda.discriminators import adversarial_backward, attention, unscaled
from microseg.train.uda.losses import (
    class_mix,
    entropy_maps,
    mean_entropy,
    robust_entropy,
    swap_amplitude,
    thresholds_by_phase,
)
from microseg.train.uda.recipe import AdaptSegNet, Advent, Dacs, Dast, Fda, IntraDA, Masked, MinEnt

Losses = dict[str, float]
PseudoLabels = tuple[Tensor, Tensor]
TileOrigin = Literal["source", "target", "none"]


@dataclass(frozen=True)
class StepTiles:
    """The tiles of a step, float 0-255 (N, 1, S, S).

    source, target: Tiles of both domains.
    labels: Labels int64 (N, S, S) of the source tiles.
    earlier_labels: Pseudo-labels of the target tiles by an earlier round's bag, or None.
    """

    source: Tensor
    labels: Tensor
    target: Tensor
    earlier_labels: PseudoLabels | None = None


@dataclass(frozen=True)
class AdaptationModules:
    """The networks of a step and the functions on them.

    network: The network that is adapted.
    teacher: The averaged network.
    discriminators: One for each head, or none.
    forward: The network in training mode, of tiles and the domain whose running statistics they move. "none" moves none.
    segmentation: The source run's loss of logits and labels.
    auxiliary: Weight of the second head's loss.
    core_px: Side of the tile's core that the loss counts on.
    on_target: Factor on every loss on the target. 0 switches them off.
    phase_weights: Weights (P,) of the phases in the source's loss, or None.
    generator: Draws what a method draws.
    scaled: Scales a loss for fp16.
    """

    network: Network
    teacher: Network
    discriminators: Sequence[nn.Module]
    forward: Callable[[Tensor, TileOrigin], NetworkOutput]
    segmentation: Callable[[Tensor, Tensor], Tensor]
    auxiliary: float
    core_px: int
    on_target: float
    phase_weights: Tensor | None
    generator: torch.Generator
    scaled: Callable[[Tensor], Tensor] = unscaled

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a loss."""
        self.scaled(loss).backward()  # type: ignore[no-untyped-call]

    def source_loss(self, out: NetworkOutput, labels: Tensor) -> Tensor:
        """The supervised loss of all heads on the core, of labels int64 (N, S, S)."""
        core = core_of(labels, self.core_px)
        loss = self.segmentation(core_of(out.logits.float(), self.core_px), core)
        if out.auxiliary is not None and self.auxiliary:
            loss = loss + self.auxiliary * self.segmentation(core_of(out.auxiliary.float(), self.core_px), core)
        return loss

    def target_labels(self, tiles: StepTiles, debias: bool = True) -> PseudoLabels:
        """Labels int64 and confidence, each (N, S, S), of the target tiles: the earlier round's, or the teacher's.

        debias: Divide the teacher's probabilities by the phase weights of the loss.
        """
        if tiles.earlier_labels is not None:
            return tiles.earlier_labels
        with torch.inference_mode():
            probability = self.teacher.eval().forward_any_size(tiles.target).logits.float().softmax(1)
        return pseudo_labels(probability.clone(), self.phase_weights if debias else None)


def source_only(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    """Supervised training on the source alone."""
    loss = modules.source_loss(modules.forward(tiles.source, "source"), tiles.labels)
    modules.backward(loss)
    return {"segmentation": float(loss.detach())}


def statistics(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    """Supervised training on the source, while target tiles pass through batch normalisation."""
    losses = source_only(modules, tiles)
    with torch.no_grad():
        modules.forward(tiles.target, "target")
    return losses


def minimum_entropy(modules: AdaptationModules, tiles: StepTiles, method: MinEnt) -> Losses:
    """MinEnt (Vu et al. 2019): the entropy of the target's maps is minimised."""
    losses = source_only(modules, tiles)
    maps = _maps(modules.forward(tiles.target, "target"))
    entropies = [mean_entropy(soft) for soft in maps]
    weights = (method.weight, method.auxiliary)
    terms = [weight * entropy for weight, entropy in zip(weights, entropies, strict=False)]
    weighted = modules.on_target * torch.stack(terms).sum()
    modules.backward(weighted)
    return losses | _by_head("target", [float(value.detach()) for value in entropies]) | _on_target(weighted)


def adversarial(modules: AdaptationModules, tiles: StepTiles, method: AdaptSegNet) -> Losses:
    """The step of AdaptSegNet (Tsai et al. 2018); with entropy maps that of ADVENT (Vu et al. 2019).

    In the published order: the network on the source, the network on the target against frozen discriminators, the
    discriminators (`discriminators.adversarial_backward`).
    """
    of_source = modules.forward(tiles.source, "source")
    loss = modules.source_loss(of_source, tiles.labels)
    modules.backward(loss)
    source_maps = [soft.detach() for soft in _maps(of_source)]
    target_maps = _maps(modules.forward(tiles.target, "target"))
    if isinstance(method, Advent | IntraDA):
        source_maps, target_maps = ([entropy_maps(soft) for soft in maps] for maps in (source_maps, target_maps))
    weights = [modules.on_target * weight for weight in (method.adversarial, method.auxiliary)][: len(target_maps)]
    fooled, learned = adversarial_backward(
        modules.discriminators, source_maps, target_maps, weights, method.loss, modules.scaled
    )
    weighted = sum(weight * value for weight, value in zip(weights, fooled, strict=True))
    losses = {"segmentation": float(loss.detach()), "on_target": weighted}
    return losses | _by_head("target", fooled) | _by_head("discriminator", learned)


def attended_self_training(
    modules: AdaptationModules, tiles: StepTiles, method: Dast, taught: Callable[[], PseudoLabels] | None
) -> Losses:
    """DAST (Yu et al. 2021): AdaptSegNet, and late in training pseudo-labels weighted by the discriminator's attention.

    taught: Gives the teacher's pseudo-labels of the target tiles; None early in training.
    """
    losses = adversarial(modules, tiles, method)
    if taught is None:
        return losses
    labels, confidence = taught()
    out = modules.forward(tiles.target, "target")
    attended = 1 + attention(modules.discriminators[0], _maps(out)[0], method.loss)
    weights = attended * (confidence >= method.confidence)
    loss = weighted_cross_entropy(out.logits.float(), labels, weights)
    weighted = modules.on_target * method.self_training * loss
    modules.backward(weighted)
    return losses | {"consistency": float(loss.detach())} | _on_target(weighted, losses)


def fourier(modules: AdaptationModules, tiles: StepTiles, method: Fda, fold: int) -> Losses:
    """FDA (Yang and Soatto 2020): source tiles in the target's style, robust entropy on the target."""
    beta = method.betas[fold % len(method.betas)]
    restyled = swap_amplitude(tiles.source, tiles.target, beta) if modules.on_target else tiles.source
    loss = modules.source_loss(modules.forward(restyled, "source"), tiles.labels)
    modules.backward(loss)
    penalty = robust_entropy(_maps(modules.forward(tiles.target, "target"))[0], method.eta)
    weighted = modules.on_target * method.entropy * penalty
    modules.backward(weighted)
    return {"segmentation": float(loss.detach()), "target": float(penalty.detach())} | _on_target(weighted)


def class_mixed(
    modules: AdaptationModules,
    tiles: StepTiles,
    method: Dacs,
    relight: Callable[[Tensor], Tensor],
    taught: Callable[[], PseudoLabels],
) -> Losses:
    """DACS (Tranheden et al. 2021): phases of source tiles are pasted into target tiles, with labels and pseudo-labels.

    relight: Changes the grey values of mixed tiles.
    taught: Gives the teacher's pseudo-labels of the target tiles.
    """
    losses = source_only(modules, tiles)
    phases = modules.network.phases
    labels, confidence = taught()
    weights = _weights(labels, confidence, phases, method)
    pasted = class_mix(tiles.labels, phases, modules.generator)
    mixed = torch.where(pasted[:, None], tiles.source, tiles.target)
    truth = torch.where(pasted, tiles.labels, labels)
    out = modules.forward(relight(mixed), "target")
    loss = weighted_cross_entropy(out.logits.float(), truth, torch.where(pasted, 1.0, weights))
    weighted = modules.on_target * method.weight * loss
    modules.backward(weighted)
    return losses | {"consistency": float(loss.detach())} | _on_target(weighted)


def _weights(labels: Tensor, confidence: Tensor, phases: int, rule: Dacs) -> Tensor:
    """Weights (N, H, W) of pseudo-labelled pixels."""
    threshold: float | Tensor = rule.confidence
    if rule.thresholds == "by_phase":
        threshold = thresholds_by_phase(labels, confidence, phases, rule.confidence)
    return pixel_weights(confidence, threshold, phases, rule.weighting)


def masked_consistency(
    modules: AdaptationModules,
    target: Tensor,
    masked: Masked,
    relight: Callable[[Tensor], Tensor],
    taught: Callable[[], PseudoLabels],
    before: Losses,
    rule: Dacs,
) -> Losses:
    """MIC (Hoyer et al. 2023): of a target tile with hidden patches, the network learns the pseudo-labels of the whole.

    Args:
        modules: The networks.
        target: Target tiles, float 0-255 (N, 1, S, S).
        masked: Which patches are hidden, and the weight of the loss.
        relight: Changes the grey values of tiles.
        taught: Gives the teacher's pseudo-labels of the target tiles.
        before: Losses of the method that masked consistency is added to.
        rule: Weights of the pseudo-labels. As published, its `weighting` is `image`.

    Returns:
        `before` with the loss of masked consistency.
    """
    labels, found = taught()
    weights = _weights(labels, found, modules.network.phases, rule)
    out = modules.forward(hide_patches(relight(target), masked.ratio, masked.patch_px, modules.generator), "none")
    loss = weighted_cross_entropy(out.logits.float(), labels, weights)
    weighted = modules.on_target * masked.weight * loss
    modules.backward(weighted)
    return before | {"masked": float(loss.detach())} | _on_target(weighted, before)


def _maps(out: NetworkOutput) -> list[Tensor]:
    """Softmax maps (N, P, S, S) of the heads, main first."""
    heads = [out.logits] if out.auxiliary is None else [out.logits, out.auxiliary]
    return [logits.float().softmax(1) for logits in heads]


def _by_head(name: str, values: Sequence[float]) -> Losses:
    return dict(zip((name, f"{name}_auxiliary"), values, strict=False))


def _on_target(weighted: Tensor, before: Losses | None = None) -> Losses:
    return {"on_target": float(weighted.detach()) + (before or {}).get("on_target", 0.0)}
