"""The training loop of `microseg train uda`: one fold's network learns from labelled source and unlabelled target fields."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from microseg.core.domains.phases import UNLABELLED
from microseg.core.evaluation.metrics import mean_iou
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.system.files import write_json
from microseg.models.discriminator import Discriminator
from microseg.models.network import NetworkOutput
from microseg.train.common import checkpoint
from microseg.train.common.curves import LOSSES, write_history
from microseg.train.common.datasets import ImagesOf, LabelledField, phase_frequencies
from microseg.train.common.losses import phase_weights, segmentation_loss
from microseg.train.common.optimiser_step import OptimiserStep, adamw, training_device
from microseg.train.common.parallel.ranks import ALONE, Ranks
from microseg.train.common.parallel.stopping import StopRequest
from microseg.train.common.prediction import predict_view
from microseg.train.common.progress import ProgressCallback
from microseg.train.common.recipe import Recipe
from microseg.train.common.run_folder import load_network
from microseg.train.common.schedule import rate_factor, seed_of
from microseg.train.common.score import score_network
from microseg.train.common.self_training.pseudo_labels import relighting
from microseg.train.common.weight_average import WeightAverage
from microseg.train.uda import methods
from microseg.train.uda.criteria import Observed, drifted, is_lost, observe, snapshot_score, views, warnings_of
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
from microseg.train.uda.tiles import DomainTiles, balanced_places, pseudo_label_fields, split_by_entropy

# The averaged weights at the start of IntraDA's second round.
ROUND_ONE = "round1.safetensors"
# Of masked-image consistency where the method is not DACS: strength of the photometric change, and confidence from which a
# pseudo-label counts in full.
JITTER, CONFIDENCE = 0.7, 0.968


@dataclass(frozen=True)
class AdaptationFold:
    """Everything that the adaptation of one fold takes.

    recipe: The recipe of the adaptation.
    source: The source run's recipe.
    phases: The source run's phases.
    fields, held_out: Labelled source fields to learn from, and to score on.
    target: Target fields. All their labels are 255.
    start: Weights to begin with.
    fold: Number of the fold.
    folder: Folder of the fold.
    teachers: Weights of the bag that gives the pseudo-labels; without any, the network's own average gives them.
    unadapted: Phase fractions (P,) on the target before the first round, which drift is measured from; None for those at
        this training's start.
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
        """Seed, fold and, for the second round, the round: the seed of everything that is drawn."""
        return (self.recipe.seed, self.fold, *((1,) if self.teachers else ()))

    def run(self, progress: ProgressCallback, ranks: Ranks = ALONE) -> None:
        """Adapt this fold."""
        adapt_fold(self, progress)

    def ranks_at_most(self, workers: int) -> int:
        """One process: adaptation is not shared."""
        return 1


def adapt_fold(job: AdaptationFold, progress: ProgressCallback, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Adapt one network, or go on where an earlier process stopped.

    Writes model.safetensors (the snapshot with the best label-free criteria), history.csv, fold.json and last/ into the
    fold's folder. The result is deterministic for one machine and one number of threads.

    Args:
        job: The fold.
        progress: Called after every step.
        clock: Seconds, monotonic.

    Raises:
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    _Adaptation(job, clock).train(progress)


class _Adaptation:
    """The adaptation of one fold, restored from an earlier process's state."""

    def __init__(self, job: AdaptationFold, clock: Callable[[], float]) -> None:
        recipe, source = job.recipe, job.source
        self.job, self.clock = job, clock
        self.device = device = training_device()
        torch.manual_seed(seed_of(recipe.seed, job.fold, 0))
        network = load_network(source, len(job.phases), job.start).to(device).to(memory_format=torch.channels_last)
        self.network = network
        self.norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
        self.momenta = [norm.momentum for norm in self.norms]
        for norm in self.norms if recipe.frozen_affine else ():
            norm.requires_grad_(False)
        self.teacher = deepcopy(network).requires_grad_(False)
        # The teacher holds the averaged weights: both share their tensors.
        self.average = WeightAverage(self.teacher.state_dict(), recipe.ema_decay)
        auxiliary = getattr(source.network, "auxiliary_loss", 0.0)
        heads = (2 if auxiliary else 1) if isinstance(recipe.method, AdaptSegNet) else 0
        discriminators = nn.ModuleList(Discriminator(len(job.phases)).to(device) for _ in range(heads))
        self.discriminators = discriminators
        optimiser = adamw(network, recipe.optimiser, *_discriminator_group(recipe, discriminators))
        self.update = OptimiserStep(optimiser, device, job.folder, mixed_precision=recipe.mixed_precision)
        self.both = nn.ModuleDict({"network": network, "discriminators": discriminators})
        self.state = checkpoint.load_state(job.folder / "last", self.both, self.average.state, optimiser)
        self.update.restore(self.state.scaler)
        self.begun = clock() - self.state.seconds
        self.cuts = views(ImagesOf(job.target), network.stride)
        self.weights = weights = phase_weights(source, job.fields, len(job.phases), device)
        self.known = phase_frequencies([*job.fields, *job.held_out], len(job.phases)).tolist()
        self.halfway = recipe.steps // 2
        self._take_tiles(second_round=self.state.step > self.halfway)
        self.modules = methods.AdaptationModules(
            network=network,
            teacher=self.teacher,
            discriminators=list(discriminators),
            forward=self._forward,
            segmentation=lambda logits, labels: segmentation_loss(source.loss, logits, labels, weights),
            auxiliary=auxiliary,
            core_px=source.tile.core_px,
            on_target=0.0 if recipe.statistics_only else 1.0,
            phase_weights=weights,
            generator=torch.Generator(),
            scaled=self.update.scaled,
        )

    def train(self, progress: ProgressCallback) -> None:
        """Take all steps that are left, and write fold.json."""
        recipe, method, history = self.job.recipe, self.job.recipe.method, self.state.history
        if not history:
            self._snapshot(0)
        with ThreadPoolExecutor(1) as ahead, StopRequest() as stop:
            coming = ahead.submit(self.tiles.draw, self.state.step, self.device)
            for step in range(self.state.step, recipe.steps):
                if is_lost(history) and not isinstance(method, SourceOnly):
                    break
                if isinstance(method, IntraDA) and step == self.halfway:
                    coming.result()
                    self._begin_second_round()
                    coming = ahead.submit(self.tiles.draw, step, self.device)
                tiles = coming.result()
                coming = ahead.submit(self.tiles.draw, step + 1, self.device)
                losses = self._learn(step, tiles)
                progress(step + 1, recipe.steps, ", ".join(f"{name} {value:.3f}" for name, value in losses.items()))
                if (step + 1) % recipe.snapshot_every == 0 or step + 1 == recipe.steps:
                    self._snapshot(step + 1)
                if stop.made:
                    self._save(step + 1)
                    raise KeyboardInterrupt
        self.tiles.close()
        found = {"seconds": self.state.seconds, "chosen": self.state.best, "start": history[0]}
        write_json(self.job.folder / "fold.json", found | {"warnings": warnings_of(history, method)})

    def _learn(self, step: int, tiles: methods.StepTiles) -> methods.Losses:
        """Take one step of the optimiser. Raises TrainingError."""
        recipe = self.job.recipe
        seed = seed_of(*self.job.seeds, step + 1)
        torch.manual_seed(seed)
        self.modules.generator.manual_seed(seed)
        self.network.train()
        for norm in self.norms if recipe.statistics == "none" else ():
            norm.eval()
        self.update.begin(rate_factor(recipe.schedule, step, recipe.steps))
        remedy = f"--set batch={max(1, recipe.batch // 2)}"
        with self.update.memory_guard(f"{recipe.batch} tiles of each domain", remedy):
            losses = self._losses(step, tiles, seed)
        each = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        self.update.finish(sum(losses.values()), step + 1, self.state.step, f" ({each})")
        self.average.update(self.network, step)
        for name, value in losses.items():
            self.state.sums[name] = self.state.sums.get(name, 0.0) + value
            self.state.counts[name] = self.state.counts.get(name, 0) + 1
        return losses

    def _losses(self, step: int, tiles: methods.StepTiles, seed: int) -> methods.Losses:
        """Forward and backward pass of one step, by the recipe's method."""
        recipe, method, modules = self.job.recipe, self.job.recipe.method, self.modules
        is_robust_phase = step < recipe.robust_share * recipe.steps
        relight = relighting(method.jitter if isinstance(method, Dacs) else JITTER, seed)
        # The teacher predicts the target tiles once for all that need it.
        taught = cache(partial(modules.target_labels, tiles, getattr(method, "debias", True)))
        match method:
            case SourceOnly():
                losses = methods.source_only(modules, tiles)
            case _ if is_robust_phase:
                losses = methods.statistics(modules, tiles)
            case Statistics():
                losses = methods.statistics(modules, tiles)
            case MinEnt():
                losses = methods.minimum_entropy(modules, tiles, method)
            case Fda():
                losses = methods.fourier(modules, tiles, method, self.job.fold)
            case Dacs():
                losses = methods.class_mixed(modules, tiles, method, relight, taught)
            case Dast():
                is_late = self.job.teachers or step >= self.halfway
                losses = methods.attended_self_training(modules, tiles, method, taught if is_late else None)
            case AdaptSegNet():
                losses = methods.adversarial(modules, tiles, method)
            case other:
                raise TypeError(f"{other.kind} does not train")
        if recipe.mic is None or is_robust_phase:
            return losses
        rule = method if isinstance(method, Dacs) else Dacs(confidence=getattr(method, "confidence", CONFIDENCE))
        return methods.masked_consistency(modules, tiles.target, recipe.mic, relight, taught, losses, rule)

    def _begin_second_round(self) -> None:
        """Begin IntraDA's second round, with other tiles and new discriminators."""
        checkpoint.save_model(self.job.folder / ROUND_ONE, self.average.state)
        torch.manual_seed(seed_of(self.job.recipe.seed, self.job.fold, 0))
        for discriminator in self.discriminators:
            fresh = Discriminator(len(self.job.phases)).to(self.device)
            discriminator.load_state_dict(fresh.state_dict())
            for weight in discriminator.parameters():
                self.update.optimiser.state.pop(weight, None)
        self.tiles.close()
        self._take_tiles(second_round=True)

    def _take_tiles(self, second_round: bool) -> None:
        is_within_target = second_round and _goes_within_target(self.job.recipe)
        self.tiles = domain_tiles(self.job, self.weights, self.device, is_within_target)
        self.source_is: methods.TileOrigin = "target" if is_within_target else "source"

    def _forward(self, tiles: Tensor, origin: methods.TileOrigin) -> NetworkOutput:
        """The forward pass. The recipe's `statistics` says whether tiles of this origin move the running statistics."""
        recipe = self.job.recipe
        moves = origin != "none" and recipe.statistics in ("both", self.source_is if origin == "source" else origin)
        for norm, momentum in zip(self.norms, self.momenta, strict=True):
            norm.momentum = momentum if moves else 0.0
        with self.update.autocast():
            return self.network.forward_any_size(tiles.contiguous(memory_format=torch.channels_last))

    def _snapshot(self, step: int) -> None:
        """Add a row to the history, and keep the averaged weights if they are the best so far."""
        job, state, history = self.job, self.state, self.state.history
        recipe = job.recipe
        row = self._observed(step)
        history.append(row)
        if recipe.keep_snapshots:
            checkpoint.save_model(job.folder / "snapshots" / f"step-{step:05d}.safetensors", self.average.state)
        # Training on the source alone is a control: its last snapshot counts.
        is_better = isinstance(recipe.method, SourceOnly) or (
            not row["drifted"] and snapshot_score(row) > snapshot_score(state.best or row)
        )
        if not state.best or is_better:
            state.best = row
            checkpoint.save_model(job.folder / "model.safetensors", self.average.state)
        write_history(job.folder, [{k: v for k, v in item.items() if k != "fractions"} for item in history])
        self._save(step)

    def _observed(self, step: int) -> dict[str, Any]:
        """The row of a snapshot: mean losses since the last one, source mIoU, criteria and fractions on the target."""
        job, state, history = self.job, self.state, self.state.history
        losses = {name: state.sums[name] / state.counts[name] if name in state.counts else None for name in LOSSES}
        state.sums.clear()
        state.counts.clear()
        scored = score_network(self.teacher, job.held_out, job.source.halo_px)
        upright = getattr(job.source.augmentation, "upright", False)
        seen = observe(lambda view: predict_view(self.teacher, view), self.cuts, len(job.phases), upright)
        row: dict[str, Any] = (
            {"step": step} | losses | {"source_miou": mean_iou(scored.confusion)} | _columns(seen, job.phases)
        )
        unadapted = job.unadapted or (history[0]["fractions"] if history else seen.fractions)
        is_drifted = drifted(seen.fractions, [self.known, unadapted], job.recipe.fraction_drift)
        return row | {"fractions": seen.fractions, "drifted": is_drifted}

    def _save(self, step: int) -> None:
        self.state.step, self.state.seconds = step, self.clock() - self.begun
        self.state.scaler = self.update.state()
        last = self.job.folder / "last"
        checkpoint.save_state(last, self.state, self.both, self.average.state, self.update.optimiser)


def _goes_within_target(recipe: UdaRecipe) -> bool:
    """Whether IntraDA's second round goes from easy, pseudo-labelled target tiles to hard ones.

    With `statistics_only`, as its own control, it goes on from the source.
    """
    return isinstance(recipe.method, IntraDA) and not recipe.statistics_only


def _discriminator_group(recipe: UdaRecipe, discriminators: nn.ModuleList) -> list[dict[str, Any]]:
    """The optimiser's parameter group of the discriminators, with the published betas; none without discriminators."""
    if not isinstance(recipe.method, AdaptSegNet):
        return []
    of_discriminators = {"params": discriminators.parameters(), "lr": recipe.method.discriminator_rate}
    return [of_discriminators | {"betas": (0.9, 0.99), "weight_decay": 0.0}]


def _columns(seen: Observed, phases: Sequence[PhaseInfo]) -> dict[str, float]:
    values: dict[str, Any] = asdict(seen)
    found = values.pop("fractions")
    return values | {f"fraction_{phase.name}": value for phase, value in zip(phases, found, strict=True)}


def domain_tiles(
    job: AdaptationFold, phase_weights: Tensor | None, device: torch.device, within_target: bool
) -> DomainTiles:
    """The tiles that a fold learns from.

    Args:
        job: The fold. With teachers, the target tiles carry their pseudo-labels.
        phase_weights: Weights (P,) of the phases in the source's loss, or None.
        device: Where the networks run that make pseudo-labels.
        within_target: IntraDA's second round: the easy tiles of the target take the place of the source's.
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
        hard = [cut.relabelled(np.full_like(cut.labels, UNLABELLED)) for cut in hard]
        return DomainTiles(recipe, source, easy, hard, job.seeds, places)
    if job.teachers or recipe.balanced_patches:
        bag = [load_network(source, phases, path).to(device) for path in job.teachers or [job.start]]
        freed_of = phase_weights if getattr(recipe.method, "debias", True) else None
        labelled = pseudo_label_fields(bag, target, stride, freed_of)
        if recipe.balanced_patches:
            pseudo = [decoded(torch.from_numpy(field.labels), phases)[0].numpy() for field in labelled]
            places = balanced_places(pseudo, job.fields, phases, side)
        target = labelled if job.teachers else target
    return DomainTiles(recipe, source, fields, target, job.seeds, places, phases if job.teachers else None)
