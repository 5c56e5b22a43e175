"""The loop of `distill`: one network with a head for each fold learns what the folds say of the same tiles."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn

from microseg.core.errors import TrainingError
from microseg.core.evaluation.fractions import phase_fractions
from microseg.core.evaluation.metrics import confusion_matrix, mean_iou
from microseg.models.build import build_network
from microseg.models.network import Network
from microseg.train.common import checkpoint
from microseg.train.common.curves import write_history
from microseg.train.common.datasets import LabelledField, TileSampler
from microseg.train.common.prediction import predict_field
from microseg.train.common.stopping import StopRequest
from microseg.train.distillation.calibration import spread_of
from microseg.train.distillation.recipe import DistillRecipe
from microseg.train.distillation.teacher import Answer, soft_labels
from microseg.train.supervised.loop import LOADERS, Report, average_weights, rate_factor, seed_of


@dataclass(frozen=True)
class Comparison:
    """A student beside its bag on whole fields, on the network's grid.

    agreement: mIoU of its labels with the bag's, heads: of each head's with its fold's, pooled. differences: of area
    fractions from the bag's (fields, P). spreads, bag_spreads: standard deviations of the fractions over heads, and over
    folds (fields, P).
    """

    agreement: float
    heads: list[float]
    differences: NDArray[np.float64]
    spreads: NDArray[np.float64]
    bag_spreads: NDArray[np.float64]


def train_student(
    recipe: DistillRecipe,
    phases: int,
    bag: Sequence[Network],
    fields: Sequence[LabelledField],
    compared: Sequence[Answer],
    start: Path | None,
    halo_px: int,
    folder: Path,
    report: Report,
) -> tuple[Network, float]:
    """Train one student; leaves model.safetensors, history.csv and last/ in `folder`, and continues what is there.

    recipe: settled. bag: its networks, in evaluation mode. fields: with the bag's labels where tiles are drawn or changed by
    phase; the loss goes by what each fold says of the changed tile. start: weights to begin with where they fit.
    Returns the averaged network in evaluation mode and the seconds of training. Deterministic for one machine and thread
    count. Raises TrainingError; KeyboardInterrupt when told to stop, with the state saved.
    """
    assert recipe.tile and recipe.augmentation and recipe.rare_phase_share is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed_of(recipe.seed, 0))
    network = new_student(recipe, phases, len(bag), start).to(device).to(memory_format=torch.channels_last)
    # What the fold normalises by is part of what it says, and tiles of several domains in a batch would change it.
    frozen = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d) and start is not None]
    averaged = {key: value.detach().clone() for key, value in network.state_dict().items()}
    rates = recipe.optimiser
    groups = network.parameter_groups(rates.learning_rate * rates.encoder_factor, rates.learning_rate)
    optimiser = torch.optim.AdamW(groups, weight_decay=rates.weight_decay)
    base_rates = [group["lr"] for group in optimiser.param_groups]
    # On a GPU with bf16; fp16 would need a scaled loss.
    is_reduced = recipe.mixed_precision and device.type == "cuda" and torch.cuda.is_bf16_supported()
    progress = checkpoint.load_state(folder / "last", network, averaged, optimiser)
    done, history = progress.step, progress.history
    begun = time.monotonic() - progress.seconds
    sampler = TileSampler(
        fields, recipe.augmentation, core_px=recipe.tile.core_px + 2 * recipe.tile.halo_px, halo_px=0, batch=recipe.batch,
        rare_phase_share=recipe.rare_phase_share, seed=(recipe.seed, 0),
        workers=LOADERS if device.type == "cuda" else 1,
    )  # fmt: skip

    def save(step: int) -> None:
        progress.step, progress.seconds = step, time.monotonic() - begun
        checkpoint.save_state(folder / "last", progress, network, averaged, optimiser)

    with sampler, ThreadPoolExecutor(1) as ahead, StopRequest() as stop:
        coming = ahead.submit(sampler.batch, done)
        for step in range(done, recipe.steps):
            tiles = torch.from_numpy(coming.result().tiles).to(device).float()
            tiles = tiles.contiguous(memory_format=torch.channels_last)
            coming = ahead.submit(sampler.batch, step + 1)
            torch.manual_seed(seed_of(recipe.seed, step + 1))
            for group, rate in zip(optimiser.param_groups, base_rates, strict=True):
                group["lr"] = rate * rate_factor(recipe.schedule, step, recipe.steps)
            network.train()
            for norm in frozen:
                norm.eval()
            optimiser.zero_grad(set_to_none=True)
            try:
                with torch.autocast(device.type, torch.bfloat16, enabled=is_reduced):
                    taught = soft_labels(bag, tiles)
                    logits = network.forward_any_size(tiles).logits
                loss = distillation_loss(torch.stack(logits.float().chunk(len(bag), 1), 1), taught, recipe.bag_weight)
                loss.backward()  # type: ignore[no-untyped-call]
            except (torch.OutOfMemoryError, MemoryError) as error:
                raise TrainingError(
                    f"{folder}: out of memory on {device} with {recipe.batch} tiles of {tiles.shape[-1]} px. "
                    f"Remedy: --set batch={max(1, recipe.batch // 2)}."
                ) from error
            value = float(loss.detach())
            if not math.isfinite(value):
                raise TrainingError(
                    f"{folder}: the loss became {value} at step {step + 1}. The weights of step {progress.step} are kept. "
                    "Remedy: a lower optimiser.learning_rate and another --out."
                )
            optimiser.step()
            average_weights(averaged, network, recipe.ema_decay, step)
            progress.running += value
            report(step + 1, recipe.steps, f"loss {value:.4f}")
            if (step + 1) % recipe.validate_every == 0 or step + 1 == recipe.steps:
                since = step + 1 - (history[-1]["step"] if history else 0)
                own = {key: tensor.detach().clone() for key, tensor in network.state_dict().items()}
                network.load_state_dict(averaged)
                row = _row(compare(network, compared, phases, halo_px))
                network.load_state_dict(own)
                history.append({"step": step + 1, "loss": progress.running / since} | row)
                progress.running = 0.0
                write_history(folder, history)
                save(step + 1)
            if stop.made:
                save(step + 1)
                raise KeyboardInterrupt
    network.load_state_dict(averaged)
    checkpoint.save_model(folder / "model.safetensors", averaged)
    return network.eval(), progress.seconds


def new_student(recipe: DistillRecipe, phases: int, heads: int, start: Path | None) -> Network:
    """The recipe's network with the weights of `start`, a fold of the bag: the first channels of it where it is narrower.

    Each head begins as that fold's: what sets them apart is what they are taught.
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
    """Kullback-Leibler divergence per pixel of heads (N, F, P, H, W) from their folds' probabilities `taught`, mean over heads.

    Plus `bag_weight` times that of the heads' mean probability from the folds' (Hinton et al. 2015; Beyer et al. 2022: the
    teacher sees the student's view).
    """
    said = logits.log_softmax(2)
    loss = _divergence(said, taught, 2)
    if bag_weight:
        together = said.logsumexp(1) - math.log(said.shape[1])
        loss = loss + bag_weight * _divergence(together, taught.mean(1), 1)
    return loss


def _divergence(said: Tensor, taught: Tensor, axis: int) -> Tensor:
    divergence: Tensor = (torch.special.xlogy(taught, taught) - taught * said).sum(axis).mean()
    return divergence


def compare(network: Network, fields: Sequence[Answer], phases: int, halo_px: int) -> Comparison:
    """A student beside the bag whose answers are given."""
    network.eval()
    total = np.zeros((phases, phases), np.int64)
    each = np.zeros((network.heads, phases, phases), np.int64)
    differences, spreads, bag_spreads = [], [], []
    for item in fields:
        soft, _ = predict_field([network], item.field.image, network.stride, halo_px)
        labels, votes = soft.mean(0).argmax(0).astype(np.uint8), soft.argmax(1).astype(np.uint8)
        total += confusion_matrix(item.field.labels, labels, phases)
        for index, (wanted, said) in enumerate(zip(item.votes, votes, strict=True)):
            each[index] += confusion_matrix(wanted, said, phases)
        differences.append(phase_fractions(labels, phases) - phase_fractions(item.field.labels, phases))
        spreads.append(spread_of(votes, phases))
        bag_spreads.append(spread_of(item.votes, phases))
    return Comparison(
        mean_iou(total),
        [mean_iou(confusion) for confusion in each],
        np.array(differences),
        np.array(spreads),
        np.array(bag_spreads),
    )


def _row(found: Comparison) -> dict[str, Any]:
    """A line of history.csv."""
    return {
        "miou": found.agreement,
        "heads_miou": float(np.mean(found.heads)),
        "points": 100 * float(np.abs(found.differences).max()),
        "spread_points": 100 * float(found.spreads.mean()),
        "bag_spread_points": 100 * float(found.bag_spreads.mean()),
    }
