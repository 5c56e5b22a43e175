"""`microseg train uda`: one fold's network learns on from labelled source and unlabelled target fields."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import TrainingError
from microseg.core.evaluation.metrics import mean_iou
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.system.files import write_json
from microseg.models.build import build_network
from microseg.models.discriminator import Discriminator
from microseg.models.network import Network, NetworkOutput
from microseg.train.common import checkpoint
from microseg.train.common.curves import LOSSES, write_history
from microseg.train.common.datasets import LabelledField, phase_frequencies
from microseg.train.common.ranks import ALONE, Ranks
from microseg.train.common.recipe import Recipe
from microseg.train.common.stopping import StopRequest
from microseg.train.supervised.loop import (
    Report,
    average_weights,
    phase_weights,
    rate_factor,
    score,
    seed_of,
    segmentation_loss,
)
from microseg.train.uda import methods
from microseg.train.uda.criteria import Observed, observe, views
from microseg.train.uda.losses import decoded
from microseg.train.uda.recipe import (
    AdaptSegNet,
    Dacs,
    Dast,
    Fda,
    IntraDA,
    MinEnt,
    SourceOnly,
    Statistics,
    UdaRecipe,
)
from microseg.train.uda.self_consistency import drifted, is_lost, promise, warnings_of
from microseg.train.uda.tiles import DomainTiles, balanced_places, relighting, split_by_entropy, told_by

# What the averaged network was when IntraDA's second round began.
ROUND_ONE = "round1.safetensors"
# Strength of the photometric change that masked-image consistency gets outside DACS, and what a pseudo-label counts as sure
# from where the method has no teacher of its own.
JITTER, CONFIDENCE = 0.7, 0.968


@dataclass(frozen=True)
class AdaptJob:
    """What one fold's adaptation takes. `start`: the weights it begins with; `source`: the source's recipe and network.

    fields, held_out: labelled source fields. target: fields whose labels are all 255. teachers: weights of the bag that
    pseudo-labels come from; none: from the network's own average. unadapted: phase fractions on the target before the first
    round, which drift is measured from; None: those at this training's start.
    """

    recipe: UdaRecipe
    source: Recipe
    phases: Sequence[PhaseInfo]
    fields: Sequence[LabelledField]
    held_out: Sequence[LabelledField]
    target: Sequence[LabelledField]
    start: Path
    fold: int
    folder: Path
    teachers: Sequence[Path] = ()
    unadapted: Sequence[float] | None = None

    @property
    def seeds(self) -> tuple[int, ...]:
        """Seed, fold and, of the second one, round, of all that is drawn."""
        return (self.recipe.seed, self.fold, *((1,) if self.teachers else ()))

    def run(self, report: Report, ranks: Ranks = ALONE) -> None:
        """Adapt this fold."""
        adapt_fold(self, report)

    def ranks_at_most(self, workers: int) -> int:
        """Processes that can share this job."""
        return 1


def adapt_fold(job: AdaptJob, report: Report) -> None:
    """Train one network; leaves model.safetensors (chosen without labels), history.csv, fold.json and last/ in the folder.

    Continues what is there. Deterministic for one machine and thread count. Raises TrainingError; KeyboardInterrupt when
    told to stop, with the state saved.
    """
    _Fold(job).train(report)


class _Fold:
    """One fold's training under way, taken up where an earlier process left it."""

    def __init__(self, job: AdaptJob) -> None:
        recipe, source = job.recipe, job.source
        self.job = job
        self.device = device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(seed_of(recipe.seed, job.fold, 0))
        network = load_network(source, len(job.phases), job.start).to(device).to(memory_format=torch.channels_last)
        self.network = network
        self.norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self.momenta = [norm.momentum for norm in self.norms]
        # On a GPU with bf16; fp16 would need a scaled loss for every one of the methods' backward passes.
        self.is_reduced = recipe.mixed_precision and device.type == "cuda" and torch.cuda.is_bf16_supported()
        for norm in self.norms if recipe.frozen_affine else ():
            norm.requires_grad_(False)
        self.teacher = deepcopy(network).requires_grad_(False)
        self.averaged = self.teacher.state_dict()
        auxiliary = getattr(source.network, "auxiliary_loss", 0.0)
        heads = (2 if auxiliary else 1) if isinstance(recipe.method, AdaptSegNet) else 0
        discriminators = nn.ModuleList(Discriminator(len(job.phases)).to(device) for _ in range(heads))
        self.discriminators = discriminators
        self.optimiser = _optimiser(recipe, network, discriminators)
        self.base_rates = [group["lr"] for group in self.optimiser.param_groups]
        self.both = nn.ModuleDict({"network": network, "discriminators": discriminators})
        self.progress = checkpoint.load_state(job.folder / "last", self.both, self.averaged, self.optimiser)
        self.begun = time.monotonic() - self.progress.seconds
        self.cuts = views([field.image for field in job.target], network.stride)
        self.weights = weights = phase_weights(source, job.fields, len(job.phases), device)
        self.known = phase_frequencies([*job.fields, *job.held_out], len(job.phases)).tolist()
        self.halfway = recipe.steps // 2
        self._take_tiles(second_round=self.progress.step > self.halfway)
        self.actors = methods.Actors(
            network, self.teacher, list(discriminators), self._forward,
            lambda logits, labels: segmentation_loss(source.loss, logits, labels, weights),
            auxiliary, source.tile.core_px, 0.0 if recipe.statistics_only else 1.0, weights, torch.Generator(),
        )  # fmt: skip

    def train(self, report: Report) -> None:
        """All steps that are left, and what the fold is judged by."""
        recipe, method, history = self.job.recipe, self.job.recipe.method, self.progress.history
        if not history:
            self._snapshot(0)
        with ThreadPoolExecutor(1) as ahead, StopRequest() as stop:
            coming = ahead.submit(self.tiles.draw, self.progress.step, self.device)
            for step in range(self.progress.step, recipe.steps):
                if is_lost(history) and not isinstance(method, SourceOnly):
                    break
                if isinstance(method, IntraDA) and step == self.halfway:
                    coming.result()
                    self._begin_second_round()
                    coming = ahead.submit(self.tiles.draw, step, self.device)
                tiles = coming.result()
                coming = ahead.submit(self.tiles.draw, step + 1, self.device)
                losses = self._learn(step, tiles)
                report(step + 1, recipe.steps, ", ".join(f"{name} {value:.3f}" for name, value in losses.items()))
                if (step + 1) % recipe.snapshot_every == 0 or step + 1 == recipe.steps:
                    self._snapshot(step + 1)
                if stop.made:
                    self._save(step + 1)
                    raise KeyboardInterrupt
        self.tiles.close()
        found = {"seconds": self.progress.seconds, "chosen": self.progress.best, "start": history[0]}
        write_json(self.job.folder / "fold.json", found | {"warnings": warnings_of(history, method)})

    def _learn(self, step: int, tiles: methods.Tiles) -> methods.Losses:
        """One step of the optimiser. Raises TrainingError: out of memory, a loss that is no number."""
        recipe, folder = self.job.recipe, self.job.folder
        seed = seed_of(*self.job.seeds, step + 1)
        torch.manual_seed(seed)
        self.actors.generator.manual_seed(seed)
        for group, rate in zip(self.optimiser.param_groups, self.base_rates, strict=True):
            group["lr"] = rate * rate_factor(recipe.schedule, step, recipe.steps)
        self.network.train()
        for norm in self.norms if recipe.statistics == "none" else ():
            norm.eval()
        self.optimiser.zero_grad(set_to_none=True)
        try:
            losses = self._losses(step, tiles, seed)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise TrainingError(
                f"{folder}: out of memory on {self.device} with {recipe.batch} tiles of each domain. "
                f"Remedy: --set batch={max(1, recipe.batch // 2)}."
            ) from error
        if not math.isfinite(sum(losses.values())):
            raise TrainingError(
                f"{folder}: a loss became no number at step {step + 1} ({losses}). The weights of step "
                f"{self.progress.step} are kept. Remedy: a lower optimiser.learning_rate and another --out."
            )
        self.optimiser.step()
        average_weights(self.averaged, self.network, recipe.ema_decay, step)
        for name, value in losses.items():
            self.progress.sums[name] = self.progress.sums.get(name, 0.0) + value
            self.progress.counts[name] = self.progress.counts.get(name, 0) + 1
        return losses

    def _losses(self, step: int, tiles: methods.Tiles, seed: int) -> methods.Losses:
        """Forward and backward of one step, by the recipe's method."""
        recipe, method, actors = self.job.recipe, self.job.recipe.method, self.actors
        is_robust_phase = step < recipe.robust_share * recipe.steps
        relight = relighting(method.jitter if isinstance(method, Dacs) else JITTER, seed)
        # What the teacher says of the step's target tiles, asked once by all who need it.
        taught = cache(partial(actors.taught, tiles, getattr(method, "debias", True)))
        match method:
            case SourceOnly():
                losses = methods.source_only(actors, tiles)
            case _ if is_robust_phase:
                losses = methods.statistics(actors, tiles)
            case Statistics():
                losses = methods.statistics(actors, tiles)
            case MinEnt():
                losses = methods.minimum_entropy(actors, tiles, method)
            case Fda():
                losses = methods.fourier(actors, tiles, method, self.job.fold)
            case Dacs():
                losses = methods.class_mixed(actors, tiles, method, relight, taught)
            case Dast():
                is_late = self.job.teachers or step >= self.halfway
                losses = methods.attended_self_training(actors, tiles, method, taught if is_late else None)
            case AdaptSegNet():
                losses = methods.adversarial(actors, tiles, method)
            case other:
                raise TypeError(f"{other.kind} does not train")
        if recipe.mic is None or is_robust_phase:
            return losses
        rule = method if isinstance(method, Dacs) else Dacs(confidence=getattr(method, "confidence", CONFIDENCE))
        return methods.masked_consistency(actors, tiles.target, recipe.mic, relight, taught, losses, rule)

    def _begin_second_round(self) -> None:
        """IntraDA's: other tiles, and discriminators that have everything to learn."""
        checkpoint.save_model(self.job.folder / ROUND_ONE, self.averaged)
        torch.manual_seed(seed_of(self.job.recipe.seed, self.job.fold, 0))
        for discriminator in self.discriminators:
            fresh = Discriminator(len(self.job.phases)).to(self.device)
            discriminator.load_state_dict(fresh.state_dict())
            for weight in discriminator.parameters():
                self.optimiser.state.pop(weight, None)
        self.tiles.close()
        self._take_tiles(second_round=True)

    def _take_tiles(self, second_round: bool) -> None:
        is_within_target = second_round and _goes_within_target(self.job.recipe)
        self.tiles = domain_tiles(self.job, self.weights, self.device, is_within_target)
        self.source_is: methods.Domain = "target" if is_within_target else "source"

    def _forward(self, tiles: Tensor, domain: methods.Domain) -> NetworkOutput:
        """The network's forward pass, in which the recipe settles whose tiles move the running statistics."""
        recipe = self.job.recipe
        moves = domain != "none" and recipe.statistics in ("both", self.source_is if domain == "source" else domain)
        for norm, momentum in zip(self.norms, self.momenta, strict=True):
            norm.momentum = momentum if moves else 0.0
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.is_reduced):
            return self.network.forward_any_size(tiles.contiguous(memory_format=torch.channels_last))

    def _snapshot(self, step: int) -> None:
        """A row of the history; the weights are kept if they promise most so far."""
        job, progress = self.job, self.progress
        recipe, history = job.recipe, progress.history
        losses = {
            name: progress.sums[name] / progress.counts[name] if name in progress.counts else None for name in LOSSES
        }
        progress.sums.clear()
        progress.counts.clear()
        scored = score(self.teacher, job.held_out, job.source, len(job.phases))
        upright = getattr(job.source.augmentation, "upright", False)
        seen = observe(lambda view: predict_map(self.teacher, view), self.cuts, len(job.phases), upright)
        row: dict[str, Any] = (
            {"step": step} | losses | {"source_miou": mean_iou(scored.confusion)} | _columns(seen, job.phases)
        )
        unadapted = job.unadapted or (history[0]["fractions"] if history else seen.fractions)
        is_drifted = drifted(seen.fractions, [self.known, unadapted], recipe.fraction_drift)
        row |= {"fractions": seen.fractions, "drifted": is_drifted}
        history.append(row)
        if recipe.keep_snapshots:
            checkpoint.save_model(job.folder / "snapshots" / f"step-{step:05d}.safetensors", self.averaged)
        # Equally long source training is what it is at its end; it is a control, and chooses nothing.
        is_better = isinstance(recipe.method, SourceOnly) or (
            not is_drifted and promise(row) > promise(progress.best or row)
        )
        if not progress.best or is_better:
            progress.best = row
            checkpoint.save_model(job.folder / "model.safetensors", self.averaged)
        write_history(job.folder, [{k: v for k, v in item.items() if k != "fractions"} for item in history])
        self._save(step)

    def _save(self, step: int) -> None:
        self.progress.step, self.progress.seconds = step, time.monotonic() - self.begun
        checkpoint.save_state(self.job.folder / "last", self.progress, self.both, self.averaged, self.optimiser)


def _goes_within_target(recipe: UdaRecipe) -> bool:
    """Whether there is a second round, of IntraDA, from easy, pseudo-labelled target tiles to hard ones.

    As its own control, without any loss on the target, it goes on from the source.
    """
    return isinstance(recipe.method, IntraDA) and not recipe.statistics_only


def _optimiser(recipe: UdaRecipe, network: Network, discriminators: nn.ModuleList) -> torch.optim.Optimizer:
    rates, method = recipe.optimiser, recipe.method
    groups: list[dict[str, Any]] = list(
        network.parameter_groups(rates.learning_rate * rates.encoder_factor, rates.learning_rate)
    )
    if isinstance(method, AdaptSegNet):
        of_discriminators = {"params": discriminators.parameters(), "lr": method.discriminator_rate}
        groups.append(of_discriminators | {"betas": (0.9, 0.99), "weight_decay": 0.0})
    return torch.optim.AdamW(groups, weight_decay=rates.weight_decay)


def load_network(source: Recipe, phases: int, weights: Path) -> Network:
    """The source run's network with a fold's weights, ready to predict. Raises InputError."""
    encoder = source.encoder.model_dump() | {"weights": "none"}
    network = build_network(encoder, source.network.model_dump(), phases)
    checkpoint.load_model(weights, network)
    return network.eval()


def _columns(seen: Observed, phases: Sequence[PhaseInfo]) -> dict[str, float]:
    values: dict[str, Any] = asdict(seen)
    found = values.pop("fractions")
    return values | {f"fraction_{phase.name}": value for phase, value in zip(phases, found, strict=True)}


def predict_map(network: Network, view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Softmax float32 (P, h, w) of a view uint8 (h, w) whose sides the stride divides."""
    network.eval()
    device = next(network.parameters()).device
    with torch.inference_mode():
        soft = network(torch.tensor(view)[None, None].to(device)).logits[0].float().softmax(0)
    array: NDArray[np.float32] = soft.cpu().numpy()
    return array


def predict_mean(networks: Sequence[Network], view: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mean softmax of several networks, float32 (P, h, w)."""
    return np.asarray(np.mean([predict_map(network, view) for network in networks], axis=0), np.float32)


def domain_tiles(job: AdaptJob, phase_weights: Tensor | None, device: torch.device, within_target: bool) -> DomainTiles:
    """Where the tiles come from; those of a job with teachers carry what these say of whole target fields.

    within_target: from the easy tiles of the target in place of the source's to its hard ones, by what the first round's
    network says. phase_weights: of the source's loss.
    """
    recipe, source, phases = job.recipe, job.source, len(job.phases)
    side, stride = source.tile.core_px + 2 * source.tile.halo_px, source.network.stride
    fields, target, places = job.fields, job.target, None
    if within_target:
        assert isinstance(recipe.method, IntraDA)
        first = load_network(source, phases, job.folder / ROUND_ONE)
        share = recipe.method.easy_share
        easy, hard = split_by_entropy([first.to(device)], target, side, share, stride, phase_weights)
        if recipe.balanced_patches:
            places = balanced_places([cut.labels for cut in hard], fields, phases, side)
        hard = [replace(cut, labels=np.full_like(cut.labels, UNLABELLED)) for cut in hard]
        return DomainTiles(recipe, source, easy, hard, job.seeds, places)
    if job.teachers or recipe.balanced_patches:
        bag = [load_network(source, phases, path).to(device) for path in job.teachers or [job.start]]
        freed_of = phase_weights if getattr(recipe.method, "debias", True) else None
        told = told_by(bag, target, stride, freed_of)
        if recipe.balanced_patches:
            pseudo = [decoded(torch.from_numpy(field.labels), phases)[0].numpy() for field in told]
            places = balanced_places(pseudo, job.fields, phases, side)
        target = told if job.teachers else target
    return DomainTiles(recipe, source, fields, target, job.seeds, places, phases if job.teachers else None)
