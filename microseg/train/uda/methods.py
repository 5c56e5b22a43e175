"""The adaptation methods, one function each: forward, losses and backward of one step. Steps of optimisers are the loop's.

Every function adds gradients to the network (and the discriminators) and returns its losses by name: unweighted, those of a
second head as NAME_auxiliary, and as `on_target` what is learned from target tiles, weighted, to compare with
`segmentation`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from microseg.models.network import Network, NetworkOutput
from microseg.train.common.losses import core_of
from microseg.train.uda.discriminators import adversarial_backward, attention
from microseg.train.uda.losses import (
    class_mix,
    entropy_maps,
    hide_patches,
    mean_entropy,
    pixel_weights,
    pseudo_labels,
    robust_entropy,
    swap_amplitude,
    thresholds_by_phase,
    weighted_cross_entropy,
)
from microseg.train.uda.recipe import AdaptSegNet, Advent, Dacs, Dast, Fda, IntraDA, Masked, MinEnt

Losses = dict[str, float]
Pseudo = tuple[Tensor, Tensor]
Domain = Literal["source", "target", "none"]


@dataclass(frozen=True)
class Tiles:
    """A step's tiles, float 0-255 (N, 1, S, S), and the labels int64 (N, S, S) of the source's.

    told: what an earlier round's bag says of the target's, or None.
    """

    source: Tensor
    labels: Tensor
    target: Tensor
    told: Pseudo | None = None


@dataclass(frozen=True)
class Actors:
    """What takes part in a step.

    forward(tiles, domain): the network in training mode; whose tiles move its running statistics is settled there, those
    of "none" never do.
    segmentation(logits, labels): the source run's loss. auxiliary: weight of the second head's. on_target: 0 silences
    every loss on the target. phase_weights: of the loss, or None. teacher: the averaged network.
    """

    network: Network
    teacher: Network
    discriminators: Sequence[nn.Module]
    forward: Callable[[Tensor, Domain], NetworkOutput]
    segmentation: Callable[[Tensor, Tensor], Tensor]
    auxiliary: float
    core_px: int
    on_target: float
    phase_weights: Tensor | None
    generator: torch.Generator

    def source_loss(self, out: NetworkOutput, labels: Tensor) -> Tensor:
        """Supervised loss of all heads on the core."""
        core = core_of(labels, self.core_px)
        loss = self.segmentation(core_of(out.logits.float(), self.core_px), core)
        if out.auxiliary is not None and self.auxiliary:
            loss = loss + self.auxiliary * self.segmentation(core_of(out.auxiliary.float(), self.core_px), core)
        return loss

    def taught(self, tiles: Tiles, debias: bool = True) -> Pseudo:
        """Pseudo-labels int64 and confidence, each (N, S, S), of the target tiles: the earlier round's, or the teacher's."""
        if tiles.told is not None:
            return tiles.told
        with torch.inference_mode():
            probability = self.teacher.eval().forward_any_size(tiles.target).logits.float().softmax(1)
        return pseudo_labels(probability.clone(), self.phase_weights if debias else None)


def source_only(actors: Actors, tiles: Tiles) -> Losses:
    """Supervised training goes on."""
    loss = actors.source_loss(actors.forward(tiles.source, "source"), tiles.labels)
    _backward(loss)
    return {"segmentation": float(loss.detach())}


def statistics(actors: Actors, tiles: Tiles) -> Losses:
    """Supervised training, while target tiles pass through batch normalisation."""
    losses = source_only(actors, tiles)
    with torch.no_grad():
        actors.forward(tiles.target, "target")
    return losses


def minimum_entropy(actors: Actors, tiles: Tiles, method: MinEnt) -> Losses:
    """MinEnt (Vu et al. 2019)."""
    losses = source_only(actors, tiles)
    maps = _maps(actors.forward(tiles.target, "target"))
    entropies = [mean_entropy(soft) for soft in maps]
    weights = (method.weight, method.auxiliary)
    terms = [weight * entropy for weight, entropy in zip(weights, entropies, strict=False)]
    weighted = actors.on_target * torch.stack(terms).sum()
    _backward(weighted)
    return losses | _by_head("target", [float(value.detach()) for value in entropies]) | _on_target(weighted)


def adversarial(actors: Actors, tiles: Tiles, method: AdaptSegNet) -> Losses:
    """AdaptSegNet, or with entropy maps ADVENT, as published: source, target with frozen discriminators, discriminators."""
    of_source = actors.forward(tiles.source, "source")
    loss = actors.source_loss(of_source, tiles.labels)
    _backward(loss)
    source_maps = [soft.detach() for soft in _maps(of_source)]
    target_maps = _maps(actors.forward(tiles.target, "target"))
    if isinstance(method, Advent | IntraDA):
        source_maps, target_maps = ([entropy_maps(soft) for soft in maps] for maps in (source_maps, target_maps))
    weights = [actors.on_target * weight for weight in (method.adversarial, method.auxiliary)][: len(target_maps)]
    fooled, learned = adversarial_backward(actors.discriminators, source_maps, target_maps, weights, method.loss)
    weighted = sum(weight * value for weight, value in zip(weights, fooled, strict=True))
    losses = {"segmentation": float(loss.detach()), "on_target": weighted}
    return losses | _by_head("target", fooled) | _by_head("discriminator", learned)


def attended_self_training(actors: Actors, tiles: Tiles, method: Dast, taught: Callable[[], Pseudo] | None) -> Losses:
    """DAST (Yu et al. 2021): AdaptSegNet, and late in training pseudo-labels weighted by the discriminator's attention.

    taught: the teacher's pseudo-labels of the target tiles, or None as long as it is early.
    """
    losses = adversarial(actors, tiles, method)
    if taught is None:
        return losses
    labels, confidence = taught()
    out = actors.forward(tiles.target, "target")
    attended = 1 + attention(actors.discriminators[0], _maps(out)[0], method.loss)
    weights = attended * (confidence >= method.confidence)
    loss = weighted_cross_entropy(out.logits.float(), labels, weights)
    weighted = actors.on_target * method.self_training * loss
    _backward(weighted)
    return losses | {"consistency": float(loss.detach())} | _on_target(weighted, losses)


def fourier(actors: Actors, tiles: Tiles, method: Fda, fold: int) -> Losses:
    """FDA (Yang and Soatto 2020): source tiles in the target's style, robust entropy on the target."""
    beta = method.betas[fold % len(method.betas)]
    restyled = swap_amplitude(tiles.source, tiles.target, beta) if actors.on_target else tiles.source
    loss = actors.source_loss(actors.forward(restyled, "source"), tiles.labels)
    _backward(loss)
    penalty = robust_entropy(_maps(actors.forward(tiles.target, "target"))[0], method.eta)
    weighted = actors.on_target * method.entropy * penalty
    _backward(weighted)
    return {"segmentation": float(loss.detach()), "target": float(penalty.detach())} | _on_target(weighted)


def class_mixed(
    actors: Actors, tiles: Tiles, method: Dacs, relight: Callable[[Tensor], Tensor], taught: Callable[[], Pseudo]
) -> Losses:
    """DACS (Tranheden et al. 2021): phases of source tiles pasted into target tiles, labelled by truth and teacher.

    relight: the photometric change of mixed tiles. taught: the teacher's pseudo-labels of the target tiles.
    """
    losses = source_only(actors, tiles)
    phases = actors.network.phases
    labels, confidence = taught()
    weights = _weights(labels, confidence, phases, method)
    pasted = class_mix(tiles.labels, phases, actors.generator)
    mixed = torch.where(pasted[:, None], tiles.source, tiles.target)
    truth = torch.where(pasted, tiles.labels, labels)
    out = actors.forward(relight(mixed), "target")
    loss = weighted_cross_entropy(out.logits.float(), truth, torch.where(pasted, 1.0, weights))
    weighted = actors.on_target * method.weight * loss
    _backward(weighted)
    return losses | {"consistency": float(loss.detach())} | _on_target(weighted)


def _weights(labels: Tensor, confidence: Tensor, phases: int, rule: Dacs) -> Tensor:
    """What each pseudo-label counts."""
    threshold: float | Tensor = rule.confidence
    if rule.thresholds == "by_phase":
        threshold = thresholds_by_phase(labels, confidence, phases, rule.confidence)
    return pixel_weights(confidence, threshold, phases, rule.weighting)


def masked_consistency(
    actors: Actors,
    target: Tensor,
    masked: Masked,
    relight: Callable[[Tensor], Tensor],
    taught: Callable[[], Pseudo],
    before: Losses,
    rule: Dacs,
) -> Losses:
    """MIC (Hoyer et al. 2023): the network sees patches of the target and must say what the teacher says of the whole.

    before: the losses of the method that it comes on top of; returned with its own. rule: by which pseudo-labels count; as
    published, `weighting` is `image`.
    """
    labels, found = taught()
    weights = _weights(labels, found, actors.network.phases, rule)
    out = actors.forward(hide_patches(relight(target), masked.ratio, masked.patch_px, actors.generator), "none")
    loss = weighted_cross_entropy(out.logits.float(), labels, weights)
    weighted = actors.on_target * masked.weight * loss
    _backward(weighted)
    return before | {"masked": float(loss.detach())} | _on_target(weighted, before)


def _maps(out: NetworkOutput) -> list[Tensor]:
    """Softmax maps (N, P, S, S) of the heads, main first."""
    heads = [out.logits] if out.auxiliary is None else [out.logits, out.auxiliary]
    return [logits.float().softmax(1) for logits in heads]


def _by_head(name: str, values: Sequence[float]) -> Losses:
    return dict(zip((name, f"{name}_auxiliary"), values, strict=False))


def _on_target(weighted: Tensor, before: Losses | None = None) -> Losses:
    return {"on_target": float(weighted.detach()) + (before or {}).get("on_target", 0.0)}


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]
