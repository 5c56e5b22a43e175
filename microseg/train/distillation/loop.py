"""The training loop of `microseg distill`: one network with a head for each fold learns the folds' probabilities."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from microseg.core.evaluation.fractions import phase_fractions
from microseg.core.evaluation.metrics import confusion_matrix, mean_iou
from microseg.models.build import build_network
from microseg.models.network import Network
from microseg.train.common import checkpoint
from microseg.train.common.curves import write_history
from microseg.train.common.datasets import LOADERS, LabelledField, TileSampler
from microseg.train.common.optimiser_step import OptimiserStep, adamw, training_device
from microseg.train.common.parallel.stopping import StopRequest
from microseg.train.common.prediction import predict_field
from microseg.train.common.progress import ProgressCallback, no_progress
from microseg.train.common.schedule import rate_factor, seed_of
from microseg.train.common.weight_average import WeightAverage
from microseg.train.distillation.calibration import spread_of
from microseg.train.distillation.recipe import DistillRecipe
from microseg.train.distillation.teacher import TeacherPrediction, soft_labels


@dataclass(frozen=True)
class StudentComparison:
    """A student compared with its bag on whole fields, on the network's grid.

    agreement: mIoU, 0-1, of its labels with the bag's, all fields together.
    heads: mIoU, 0-1, of each head's labels with its fold's.
    differences: Area fractions less the bag's, float64 (fields, P).
    spreads, bag_spreads: Standard deviations of the fractions over heads, and over folds, float64 (fields, P).
    """

    agreement: float
    heads: list[float]
    differences: NDArray[np.float64]
    spreads: NDArray[np.float64]
    bag_spreads: NDArray[np.float64]


@dataclass(frozen=True)
class StudentTraining:
    """Everything that the training of a student takes.

    recipe: Settled: nothing in it is null.
    phases: Number of phases.
    bag: The bag's networks, in evaluation mode.
    fields: Fields to learn on, with the bag's labels where tiles are drawn or changed by phase.
    compared: Fields to compare on.
    start: Weights to begin with, where they fit; None for the encoder's own.
    halo_px: Halo of the tiles at inference.
    folder: The student's folder.
    """

    recipe: DistillRecipe
    phases: int
    bag: Sequence[Network]
    fields: Sequence[LabelledField]
    compared: Sequence[TeacherPrediction]
    start: Path | None
    halo_px: int
    folder: Path


def train_student(
    job: StudentTraining,
    progress: ProgressCallback = no_progress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> tuple[Network, float]:
    """Train one student, or go on where an earlier process stopped.

    Writes model.safetensors, history.csv and last/ into the student's folder. The loss compares each head with its fold on
    the same changed tile. The result is deterministic for one machine and one number of threads.

    Args:
        job: The student.
        progress: Called after every step.
        clock: Seconds, monotonic.

    Returns:
        The averaged network in evaluation mode, and the seconds of training.

    Raises:
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    recipe, folder, heads, device = job.recipe, job.folder, len(job.bag), training_device()
    torch.manual_seed(seed_of(recipe.seed, 0))
    network = new_student(recipe, job.phases, heads, job.start).to(device).to(memory_format=torch.channels_last)
    # A fold's statistics are part of its predictions, and tiles of several domains in a batch would change them.
    frozen = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and job.start is not None]
    average = WeightAverage.of(network, recipe.ema_decay)
    update = OptimiserStep(adamw(network, recipe.optimiser), device, folder, mixed_precision=recipe.mixed_precision)
    state = checkpoint.load_state(folder / "last", network, average.state, update.optimiser)
    update.restore(state.scaler)
    begun = clock() - state.seconds

    def save(step: int) -> None:
        state.step, state.seconds, state.scaler = step, clock() - begun, update.state()
        checkpoint.save_state(folder / "last", state, network, average.state, update.optimiser)

    with _sampler(job, device) as sampler, ThreadPoolExecutor(1) as ahead, StopRequest() as stop:
        coming = ahead.submit(sampler.batch, state.step)
        for step in range(state.step, recipe.steps):
            tiles = torch.from_numpy(coming.result().tiles).to(device).float()
            tiles = tiles.contiguous(memory_format=torch.channels_last)
            coming = ahead.submit(sampler.batch, step + 1)
            torch.manual_seed(seed_of(recipe.seed, step + 1))
            network.train()
            for norm in frozen:
                norm.eval()
            update.begin(rate_factor(recipe.schedule, step, recipe.steps))
            remedy = f"--set batch={max(1, recipe.batch // 2)}"
            with update.memory_guard(f"{recipe.batch} tiles of {tiles.shape[-1]} px", remedy):
                with update.autocast():
                    taught = soft_labels(job.bag, tiles)
                    logits = network.forward_any_size(tiles).logits
                loss = distillation_loss(torch.stack(logits.float().chunk(heads, 1), 1), taught, recipe.bag_weight)
                update.backward(loss)
            value = float(loss.detach())
            update.finish(value, step + 1, state.step)
            average.update(network, step)
            state.running += value
            progress(step + 1, recipe.steps, f"loss {value:.4f}")
            if (step + 1) % recipe.validate_every == 0 or step + 1 == recipe.steps:
                since = step + 1 - (state.history[-1]["step"] if state.history else 0)
                with average.loaded_into(network):
                    row = _row(compare(network, job.compared, job.phases, job.halo_px))
                state.history.append({"step": step + 1, "loss": state.running / since} | row)
                state.running = 0.0
                write_history(folder, state.history)
                save(step + 1)
            if stop.made:
                save(step + 1)
                raise KeyboardInterrupt
    network.load_state_dict(average.state)
    checkpoint.save_model(folder / "model.safetensors", average.state)
    return network.eval(), state.seconds


def _sampler(job: StudentTraining, device: torch.device) -> TileSampler:
    """Tiles without a halo: the loss counts on all of a tile, because bag and student see the same one."""
    recipe = job.recipe
    assert recipe.tile and recipe.augmentation and recipe.rare_phase_share is not None
    return TileSampler(
        job.fields, recipe.augmentation, core_px=recipe.tile.core_px + 2 * recipe.tile.halo_px, halo_px=0,
        batch=recipe.batch, rare_phase_share=recipe.rare_phase_share, seed=(recipe.seed, 0),
        workers=LOADERS if device.type == "cuda" else 1,
    )  # fmt: skip


def new_student(recipe: DistillRecipe, phases: int, heads: int, start: Path | None) -> Network:
    """A student with its initial weights.

    Args:
        recipe: Settled: nothing in it is null.
        phases: Number of phases.
        heads: One for each fold of the bag.
        start: Weights of a fold of the bag. A narrower student takes their first channels. Every head begins with them.
    """
    assert recipe.encoder and recipe.network
    encoder = recipe.encoder.model_dump() | ({"weights": "none"} if start else {})
    network = build_network(encoder, recipe.network.model_dump(), phases, heads)
    if start is not None:
        own = network.state_dict()
        for key, value in load_file(start).items():
            shape = own[key].shape if key in own else torch.Size()
            if value.ndim and shape and shape[0] == heads * len(value):
                value = value.repeat(heads, *[1] * (value.ndim - 1))
            if key in own and len(shape) == value.ndim and all(n <= m for n, m in zip(shape, value.shape, strict=True)):
                own[key].copy_(value[tuple(slice(n) for n in shape)])
    return network


def distillation_loss(logits: Tensor, taught: Tensor, bag_weight: float) -> Tensor:
    """The loss of distillation (Hinton et al. 2015), with teacher and student on the same tile (Beyer et al. 2022).

    Args:
        logits: Logits of the heads, (N, F, P, H, W).
        taught: Probabilities of the folds, (N, F, P, H, W).
        bag_weight: Weight of the second term.

    Returns:
        Kullback-Leibler divergence of each head from its fold, mean over heads and pixels, plus `bag_weight` times that of
        the heads' mean probability from the folds'.
    """
    found = logits.log_softmax(2)
    loss = _divergence(found, taught, 2)
    if bag_weight:
        together = found.logsumexp(1) - math.log(found.shape[1])
        loss = loss + bag_weight * _divergence(together, taught.mean(1), 1)
    return loss


def _divergence(found: Tensor, taught: Tensor, axis: int) -> Tensor:
    divergence: Tensor = (torch.special.xlogy(taught, taught) - taught * found).sum(axis).mean()
    return divergence


def compare(network: Network, fields: Sequence[TeacherPrediction], phases: int, halo_px: int) -> StudentComparison:
    """Compare a student with the bag's predictions of whole fields."""
    network.eval()
    total = np.zeros((phases, phases), np.int64)
    each = np.zeros((network.heads, phases, phases), np.int64)
    differences, spreads, bag_spreads = [], [], []
    for item in fields:
        soft, _ = predict_field([network], item.field.image, network.stride, halo_px)
        labels, votes = soft.mean(0).argmax(0).astype(np.uint8), soft.argmax(1).astype(np.uint8)
        total += confusion_matrix(item.field.labels, labels, phases)
        for index, (wanted, vote) in enumerate(zip(item.votes, votes, strict=True)):
            each[index] += confusion_matrix(wanted, vote, phases)
        differences.append(phase_fractions(labels, phases) - phase_fractions(item.field.labels, phases))
        spreads.append(spread_of(votes, phases))
        bag_spreads.append(spread_of(item.votes, phases))
    return StudentComparison(
        mean_iou(total),
        [mean_iou(confusion) for confusion in each],
        np.array(differences),
        np.array(spreads),
        np.array(bag_spreads),
    )


def _row(found: StudentComparison) -> dict[str, Any]:
    """The columns of history.csv."""
    return {
        "miou": found.agreement,
        "heads_miou": float(np.mean(found.heads)),
        "points": 100 * float(np.abs(found.differences).max()),
        "spread_points": 100 * float(found.spreads.mean()),
        "bag_spread_points": 100 * float(found.bag_spreads.mean()),
    }
