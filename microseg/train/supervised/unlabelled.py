"""`train supervised --unlabelled FOLDER`: folds go on with unlabelled fields, kept where held-out labels gain."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.run import UnlabelledGain
from microseg.core.system.files import replacing, write_json
from microseg.models.network import Network
from microseg.train.common import checkpoint
from microseg.train.common.curves import write_history
from microseg.train.common.datasets import LOADERS, LabelledField, TileSampler
from microseg.train.common.losses import phase_weights
from microseg.train.common.optimiser_step import OptimiserStep, adamw, training_device
from microseg.train.common.parallel.ranks import ALONE, Ranks
from microseg.train.common.parallel.stopping import StopRequest
from microseg.train.common.progress import ProgressCallback
from microseg.train.common.recipe import ExtendedAugmentation, Recipe, UnlabelledConfig
from microseg.train.common.run_folder import FoldResult, fingerprint_of, fold_info, load_network, read_fold, write_fold
from microseg.train.common.schedule import rate_factor, seed_of
from microseg.train.common.score import score_network
from microseg.train.common.self_training.pseudo_labels import (
    hide_patches,
    pixel_weights,
    pseudo_labels,
    relighting,
    weighted_cross_entropy,
)
from microseg.train.common.weight_average import WeightAverage
from microseg.train.supervised.loop import add_to_history, loss_of_heads, micro_batches, steps_of

# Folder of the second stage in a run, with a folder for each fold.
STAGE = "unlabelled"
# The largest rotation that keeps the order of layers.
_UPRIGHT_TURN_DEG = 8.0


@dataclass(frozen=True)
class UnlabelledFold:
    """Everything that the second stage of one fold takes.

    recipe: The training recipe; its `unlabelled` is not null.
    phases: Phases of the domain.
    fields: Labelled fields to learn from.
    held_out: Labelled fields to score on.
    unlabelled: Fields of the same domain. All their labels are 255.
    fold: Number of the fold.
    folder: Folder of the stage's fold.
    first: Folder of the same fold after the first stage.
    """

    recipe: Recipe
    phases: Sequence[PhaseInfo]
    fields: Sequence[LabelledField]
    held_out: Sequence[LabelledField]
    unlabelled: Sequence[LabelledField]
    fold: int
    folder: Path
    first: Path

    def run(self, progress: ProgressCallback, ranks: Ranks = ALONE) -> None:
        """Train this fold."""
        go_on_with_unlabelled(self, progress)

    def ranks_at_most(self, workers: int) -> int:
        """One process: the stage is not shared."""
        return 1


def go_on_with_unlabelled(
    job: UnlabelledFold, progress: ProgressCallback, *, clock: Callable[[], float] = time.monotonic
) -> None:
    """Let one trained fold learn from unlabelled fields too, or go on where an earlier process stopped.

    Writes model.safetensors (the best snapshot), history.csv, fold.json and last/ into the fold's folder. The result is
    deterministic for one machine and one number of threads.

    Args:
        job: The fold.
        progress: Called after every step.
        clock: Seconds, monotonic.

    Raises:
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    recipe, folder, device = job.recipe, job.folder, training_device()
    rule = recipe.unlabelled or UnlabelledConfig()
    network = load_network(recipe, len(job.phases), job.first / "model.safetensors")
    network = network.to(device).to(memory_format=torch.channels_last)
    teacher = deepcopy(network).requires_grad_(False).eval()
    # The teacher holds the averaged weights: both share their tensors.
    average = WeightAverage(teacher.state_dict(), recipe.ema_decay)
    rate = recipe.optimiser.learning_rate * rule.rate_share
    rates = recipe.optimiser.model_copy(update={"learning_rate": rate})
    update = OptimiserStep(adamw(network, rates), device, folder, mixed_precision=recipe.mixed_precision)
    weights = phase_weights(recipe, job.fields, len(job.phases), device)
    state = checkpoint.load_state(folder / "last", network, average.state, update.optimiser)
    update.restore(state.scaler)
    before = steps_of(recipe, job.fields)
    steps, begun = max(1, round(rule.steps_share * before)), clock() - state.seconds

    def save(step: int) -> None:
        state.step, state.seconds, state.scaler = step, clock() - begun, update.state()
        checkpoint.save_state(folder / "last", state, network, average.state, update.optimiser)

    labelled, unlabelled = _samplers(job, device)
    with labelled, unlabelled, StopRequest() as stop:
        for step in range(state.step, steps):
            seed = seed_of(recipe.seed, job.fold, 2, step + 1)
            torch.manual_seed(seed)
            network.train()
            update.begin(rate_factor(recipe.schedule, step, steps))
            value = 0.0
            with update.memory_guard(f"{recipe.batch} labelled tiles and unlabelled ones", "--set micro_batch=1"):
                for tiles, labels, share in micro_batches(recipe, labelled.batch(step), weights, device, ALONE):
                    with update.autocast():
                        out = network.forward_any_size(tiles)
                    loss = loss_of_heads(recipe, out, labels, weights, share, ALONE)
                    value += float(loss.detach())
                    update.backward(loss)
                drawn = torch.from_numpy(unlabelled.batch(step).tiles).to(device).float()
                value += _learn_consistency(network, teacher, drawn, weights, recipe, update, seed)
            update.finish(value, step + 1, state.step)
            # As late in training as it is: the first steps of an average would follow the raw weights.
            average.update(network, before + step)
            state.running += value
            progress(step + 1, steps, f"loss {value:.3f} with unlabelled tiles")
            if (step + 1) % recipe.validate_every == 0 or step + 1 == steps:
                if add_to_history(state, step + 1, score_network(teacher, job.held_out, recipe.halo_px), job.phases):
                    checkpoint.save_model(folder / "model.safetensors", average.state)
                write_history(folder, state.history)
                save(step + 1)
            if stop.made:
                save(step + 1)
                raise KeyboardInterrupt
    _finish(job, network, state.seconds)


def _samplers(job: UnlabelledFold, device: torch.device) -> tuple[TileSampler, TileSampler]:
    """The labelled tiles of the recipe, and unlabelled ones that are turned and magnified a little."""
    recipe, rule = job.recipe, job.recipe.unlabelled or UnlabelledConfig()
    workers = LOADERS if device.type == "cuda" else 1
    labelled = TileSampler(
        job.fields, recipe.augmentation, core_px=recipe.tile.core_px, halo_px=recipe.tile.halo_px, batch=recipe.batch,
        rare_phase_share=recipe.rare_phase_share, seed=(recipe.seed, job.fold, 1), workers=workers,
        on_grid=recipe.tile.placement == "grid",
    )  # fmt: skip
    upright = bool(getattr(recipe.augmentation, "upright", False))
    mild = ExtendedAugmentation(
        strength=0.0,
        elastic_px=0.0,
        scale=(0.9, 1.1),
        rotation_deg=_UPRIGHT_TURN_DEG if upright else 180.0,
        upright=upright,
    )
    unlabelled = TileSampler(
        job.unlabelled, mild, core_px=recipe.tile.core_px + 2 * recipe.tile.halo_px, halo_px=0,
        batch=math.ceil(rule.batch_share * recipe.batch), rare_phase_share=0.0, seed=(recipe.seed, job.fold, 2),
        workers=workers,
    )  # fmt: skip
    return labelled, unlabelled


def _learn_consistency(
    network: Network,
    teacher: Network,
    tiles: Tensor,
    weights: Tensor | None,
    recipe: Recipe,
    update: OptimiserStep,
    seed: int,
) -> float:
    """Add the gradients of the loss on unlabelled tiles, float 0-255 (N, 1, S, S). Returns its value, weighted."""
    rule, total = recipe.unlabelled or UnlabelledConfig(), 0.0
    relight, generator = relighting(rule.strength, seed), torch.Generator().manual_seed(seed)
    size = recipe.micro_batch or len(tiles)
    for part in (tiles[start : start + size] for start in range(0, len(tiles), size)):
        with torch.inference_mode():
            soft = teacher.forward_any_size(part).logits.float().softmax(1)
        labels, confidence = pseudo_labels(soft.clone(), weights)
        sure = pixel_weights(confidence, rule.confidence, len(soft[0]), "pixel")
        changed = hide_patches(relight(part), rule.hidden_share, rule.patch_px, generator)
        with _running_statistics_kept(network), update.autocast():
            out = network.forward_any_size(changed.contiguous(memory_format=torch.channels_last))
        loss = rule.weight * len(part) / len(tiles) * weighted_cross_entropy(out.logits.float(), labels, sure)
        total += float(loss.detach())
        update.backward(loss)
    return total


@contextmanager
def _running_statistics_kept(network: nn.Module) -> Iterator[None]:
    """Tiles with hidden patches pass through batch normalisation inside the block without moving its running statistics."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _finish(job: UnlabelledFold, network: Network, seconds: float) -> None:
    """Score the best snapshot and write fold.json. Its time is that of both stages."""
    checkpoint.load_model(job.folder / "model.safetensors", network)
    scored = score_network(network, job.held_out, job.recipe.halo_px)
    result = FoldResult(
        fold_info(job.fold, scored.confusion, job.phases, job.folder / "model.safetensors"),
        fingerprint_of(job.fold, scored.features),
        read_fold(job.first).seconds + seconds,
    )
    write_fold(job.folder, result)


def stage_folder(out: Path, fold: int) -> Path:
    """The folder of a fold of the second stage, in a run's folder."""
    return out / STAGE / f"fold{fold}"


def settled_gain(out: Path, folds: int, fields: int) -> UnlabelledGain:
    """Decide once whether the networks of the second stage take the place of the first's, and put them there.

    Args:
        out: The run folder, with both stages of all folds.
        folds: Number of folds.
        fields: Number of unlabelled fields.

    Returns:
        The decision, which is also in `unlabelled/gain.json`.
    """
    path, pairs = out / STAGE / "gain.json", [(out / f"fold{fold}", stage_folder(out, fold)) for fold in range(folds)]
    if path.is_file():
        gain = UnlabelledGain.model_validate_json(path.read_bytes())
    else:
        before, after = ([read_fold(folder).info.miou for folder in stage] for stage in zip(*pairs, strict=True))
        gain = UnlabelledGain(kept=sum(after) > sum(before), fields=fields, before=before, after=after)
        write_json(path, gain.model_dump(mode="json"))
    # An interrupted run repeats this.
    for first, second in pairs if gain.kept else ():
        with replacing(first / "model.safetensors") as part:
            shutil.copyfile(second / "model.safetensors", part)
        write_fold(first, read_fold(second))
    return gain
