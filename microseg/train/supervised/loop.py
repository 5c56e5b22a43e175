"""The training loop of `microseg train supervised`: one fold's network learns from labelled fields."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microseg.core.evaluation.metrics import iou, mean_iou
from microseg.core.schemas.bag import PhaseInfo
from microseg.models.build import build_network
from microseg.models.network import Network, NetworkOutput
from microseg.train.common import checkpoint
from microseg.train.common.curves import write_history
from microseg.train.common.datasets import LOADERS, Batch, LabelledField, TileSampler, grid_of
from microseg.train.common.losses import (
    SMALLEST_MASS,
    BatchShare,
    core_of,
    labelled_mass,
    phase_weights,
    segmentation_loss,
)
from microseg.train.common.optimiser_step import OptimiserStep, adamw, training_device
from microseg.train.common.parallel.ranks import ALONE, Ranks
from microseg.train.common.parallel.stopping import StopRequest
from microseg.train.common.progress import ProgressCallback, no_progress
from microseg.train.common.recipe import DeepLabV2Config, Recipe
from microseg.train.common.run_folder import FoldResult, fingerprint_of, fold_info, write_fold
from microseg.train.common.schedule import rate_factor, seed_of
from microseg.train.common.score import Score, or_none, score_network
from microseg.train.common.weight_average import WeightAverage


@dataclass(frozen=True)
class SupervisedFold:
    """Everything that the training of one fold takes.

    recipe: The training recipe.
    phases: Phases of the domain.
    fields: Labelled fields to learn from.
    held_out: Labelled fields to score on.
    fold: Number of the fold.
    folder: Folder of the fold.
    start: Weights to begin with, instead of the recipe's.
    """

    recipe: Recipe
    phases: Sequence[PhaseInfo]
    fields: Sequence[LabelledField]
    held_out: Sequence[LabelledField]
    fold: int
    folder: Path
    start: Path | None = None

    def run(self, progress: ProgressCallback, ranks: Ranks = ALONE) -> None:
        """Train this fold."""
        train_fold(self, progress, ranks)

    def ranks_at_most(self, workers: int) -> int:
        """The most ranks, up to `workers`, that hold equal shares of every batch."""
        return max(n for n in range(1, workers + 1) if self.recipe.batch % n == 0)


def train_fold(
    job: SupervisedFold,
    progress: ProgressCallback = no_progress,
    ranks: Ranks = ALONE,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> FoldResult:
    """Train one network, or go on where an earlier process stopped.

    Writes model.safetensors (the best snapshot), history.csv, fold.json and last/ into the fold's folder. The result is
    deterministic for one machine and one number of threads. Ranks change it by rounding alone.

    Args:
        job: The fold.
        progress: Called after every step.
        ranks: Processes that share every batch.
        clock: Seconds, monotonic.

    Returns:
        Scores on the held-out fields.

    Raises:
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    recipe, fold, folder, device = job.recipe, job.fold, job.folder, training_device()
    torch.manual_seed(seed_of(recipe.seed, fold, 0))
    network = _network(job).to(device).to(memory_format=torch.channels_last)
    average = WeightAverage.of(network, recipe.ema_decay)
    update = OptimiserStep(adamw(network, recipe.optimiser), device, folder, mixed_precision=recipe.mixed_precision)
    weights = phase_weights(recipe, job.fields, len(job.phases), device)
    state = checkpoint.load_state(folder / "last", network, average.state, update.optimiser)
    update.restore(state.scaler)
    steps, begun = steps_of(recipe, job.fields), clock() - state.seconds
    forward = ranks.wrapped(network)
    best: Score | None = None

    def save(step: int) -> None:
        state.step, state.seconds, state.scaler = step, clock() - begun, update.state()
        if ranks.writes:
            checkpoint.save_state(folder / "last", state, network, average.state, update.optimiser)

    with _sampler(job, device, ranks) as sampler, ThreadPoolExecutor(1) as ahead, StopRequest() as stop:
        coming = ahead.submit(sampler.batch, state.step)
        for step in range(state.step, steps):
            batch = coming.result()
            coming = ahead.submit(sampler.batch, step + 1)
            torch.manual_seed(seed_of(recipe.seed, fold, step + 1))
            network.train()
            update.begin(rate_factor(recipe.schedule, step, steps))
            value = 0.0
            for tiles, labels, share in micro_batches(recipe, batch, weights, device, ranks):
                size = f"{len(tiles)} tiles of {tiles.shape[-1]} px at once"
                remedy = f"--set micro_batch={max(1, len(tiles) // 2)}, or a smaller tile.core_px"
                with update.memory_guard(size, remedy):
                    with update.autocast():
                        out = forward(tiles)
                    loss = loss_of_heads(recipe, out, labels, weights, share, ranks)
                    value += float(loss.detach())
                    update.backward(loss)
            value, stops = ranks.mean(value, float(stop.made))
            update.finish(value, step + 1, state.step, f", on tiles of {', '.join(batch.sources)}")
            average.update(network, step)
            state.running += value
            progress(step + 1, steps, f"loss {value:.3f}")

            if (step + 1) % recipe.validate_every == 0 or step + 1 == steps:
                with average.loaded_into(network):
                    scored = score_network(network, job.held_out, recipe.halo_px, ranks)
                is_best = add_to_history(state, step + 1, scored, job.phases)
                best = scored if is_best else best
                if ranks.writes:
                    if is_best:
                        checkpoint.save_model(folder / "model.safetensors", average.state)
                    write_history(folder, state.history)
                save(step + 1)
            if stops:
                save(step + 1)
                raise KeyboardInterrupt
    return _finished(job, network, state, ranks, best)


def steps_of(recipe: Recipe, fields: Sequence[LabelledField]) -> int:
    """Steps of a fold that learns from `fields`. An epoch is as many tiles as cover them."""
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None
    return recipe.epochs * math.ceil(len(grid_of(fields, recipe.tile.core_px)) / recipe.batch)


def _network(job: SupervisedFold) -> Network:
    """The recipe's network with its initial weights, or those of the job's start."""
    recipe = job.recipe
    encoder = recipe.encoder.model_dump() | ({"weights": "none"} if job.start else {})
    network = build_network(encoder, recipe.network.model_dump(), len(job.phases))
    if job.start:
        checkpoint.load_model(job.start, network)
    return network


def _sampler(job: SupervisedFold, device: torch.device, ranks: Ranks) -> TileSampler:
    recipe = job.recipe
    return TileSampler(
        job.fields, recipe.augmentation, core_px=recipe.tile.core_px, halo_px=recipe.tile.halo_px, batch=recipe.batch,
        rare_phase_share=recipe.rare_phase_share, seed=(recipe.seed, job.fold), on_grid=recipe.tile.placement == "grid",
        workers=LOADERS if device.type == "cuda" else 1, share=(ranks.rank, ranks.size),
    )  # fmt: skip


def micro_batches(
    recipe: Recipe, batch: Batch, weights: Tensor | None, device: torch.device, ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor, BatchShare]]:
    """Tiles float (n, 1, S, S), labels int64 (n, C, C) and their share, such that losses add up to the batch's loss."""
    count, size = len(batch.tiles), recipe.micro_batch or recipe.batch
    labels = torch.from_numpy(batch.labels).to(device).long()
    total = ranks.total(labelled_mass(labels, weights)).clamp(min=SMALLEST_MASS)
    for start in range(0, count, size):
        part = slice(start, start + size)
        tiles = torch.from_numpy(batch.tiles[part]).to(device).float().contiguous(memory_format=torch.channels_last)
        labelled = ranks.size * labelled_mass(labels[part], weights) / total
        yield tiles, labels[part], BatchShare(labelled, len(tiles) / count)


def loss_of_heads(
    recipe: Recipe, out: NetworkOutput, labels: Tensor, weights: Tensor | None, share: BatchShare, ranks: Ranks
) -> Tensor:
    """The loss of all heads on the core of the tiles."""
    core = core_of(out.logits.float(), recipe.tile.core_px)
    loss = segmentation_loss(recipe.loss, core, labels, weights, share, ranks)
    if out.auxiliary is not None and isinstance(recipe.network, DeepLabV2Config):
        core = core_of(out.auxiliary.float(), recipe.tile.core_px)
        auxiliary = segmentation_loss(recipe.loss, core, labels, weights, share, ranks)
        loss = loss + recipe.network.auxiliary_loss * auxiliary
    return loss


def add_to_history(state: checkpoint.FoldState, step: int, scored: Score, phases: Sequence[PhaseInfo]) -> bool:
    """Add a row to the learning curve. Returns whether its score is the best so far."""
    since = step - (state.history[-1]["step"] if state.history else 0)
    row: dict[str, Any] = {"step": step, "loss": state.running / since, "miou": mean_iou(scored.confusion)}
    row |= {f"iou_{p.name}": or_none(v) for p, v in zip(phases, iou(scored.confusion), strict=True)}
    state.history.append(row)
    state.running = 0.0
    is_best = bool(row["miou"] > state.best.get("miou", -1.0))
    if is_best:
        state.best = dict(row)
    return is_best


def _finished(
    job: SupervisedFold, network: Network, state: checkpoint.FoldState, ranks: Ranks, best: Score | None
) -> FoldResult:
    """Write fold.json. best: Score of the best snapshot, where this process has computed it."""
    ranks.wait()
    if best is None:
        checkpoint.load_model(job.folder / "model.safetensors", network)
    scored = best or score_network(network, job.held_out, job.recipe.halo_px, ranks)
    result = FoldResult(
        fold_info(job.fold, scored.confusion, job.phases, job.folder / "model.safetensors"),
        fingerprint_of(job.fold, scored.features),
        state.seconds,
    )
    if ranks.writes:
        write_fold(job.folder, result)
    ranks.wait()
    return result
