"""`microseg train supervised`: one network per fold, each scored on the whole fields that it did not see."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from microseg.core.errors import TrainingError
from microseg.core.evaluation.metrics import confusion_matrix, iou, mean_iou
from microseg.core.schemas.bag import Fingerprint, FoldInfo, PhaseInfo
from microseg.core.system.files import sha256_of, write_json
from microseg.models.build import build_network
from microseg.models.network import Network
from microseg.train.common import checkpoint
from microseg.train.common.curves import write_history
from microseg.train.common.datasets import Batch, LabelledField, TileSampler, grid_of, phase_frequencies
from microseg.train.common.losses import core_of, cross_entropy, focal, mass, soft_dice
from microseg.train.common.prediction import predict_field
from microseg.train.common.ranks import ALONE, Ranks
from microseg.train.common.recipe import CrossEntropy, DeepLabV2Config, Focal, Recipe, Schedule
from microseg.train.common.stopping import StopRequest

Report = Callable[[int, int, str], None]
# Threads that cut tiles for a GPU: benchmarks.loader states what one core gives.
LOADERS = 4


@dataclass(frozen=True)
class FoldResult:
    """A fold's score on its held-out fields, its features' mean and spread over them, and the seconds of its training."""

    info: FoldInfo
    fingerprint: Fingerprint
    seconds: float


def train_fold(
    recipe: Recipe,
    phases: Sequence[PhaseInfo],
    fields: Sequence[LabelledField],
    held_out: Sequence[LabelledField],
    fold: int,
    folder: Path,
    report: Report,
    ranks: Ranks = ALONE,
    start: Path | None = None,
) -> FoldResult:
    """Train one network; leaves model.safetensors (best), history.csv and last/ in `folder`, and continues what is there.

    `start`: weights to begin with, instead of the recipe's.
    `report(step, steps, text)` is called after every step. Deterministic for one machine and thread count; `ranks`, which
    share every batch, change it by rounding alone. Raises TrainingError; KeyboardInterrupt when told to stop, with the
    state saved.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed_of(recipe.seed, fold, 0))
    encoder = recipe.encoder.model_dump() | ({"weights": "none"} if start else {})
    network = build_network(encoder, recipe.network.model_dump(), len(phases))
    if start:
        checkpoint.load_model(start, network)
    network = network.to(device).to(memory_format=torch.channels_last)
    averaged = {key: value.detach().clone() for key, value in network.state_dict().items()}
    rates = recipe.optimiser
    groups = network.parameter_groups(rates.learning_rate * rates.encoder_factor, rates.learning_rate)
    optimiser = torch.optim.AdamW(groups, weight_decay=rates.weight_decay)
    base_rates = [group["lr"] for group in optimiser.param_groups]
    reduced = reduced_precision(device) if recipe.mixed_precision else None
    scaler = torch.amp.GradScaler(device.type, enabled=reduced == torch.float16)
    weights = phase_weights(recipe, fields, len(phases), device)
    progress = checkpoint.load_state(folder / "last", network, averaged, optimiser)
    if progress.scaler:
        scaler.load_state_dict(progress.scaler)
    done, history = progress.step, progress.history
    steps = steps_of(recipe, fields)
    begun = time.monotonic() - progress.seconds
    sampler = TileSampler(
        fields, recipe.augmentation, core_px=recipe.tile.core_px, halo_px=recipe.tile.halo_px, batch=recipe.batch,
        rare_phase_share=recipe.rare_phase_share, seed=(recipe.seed, fold), on_grid=recipe.tile.placement == "grid",
        workers=LOADERS if device.type == "cuda" else 1, share=(ranks.rank, ranks.size),
    )  # fmt: skip
    forward = ranks.wrapped(network)

    def save(step: int) -> None:
        progress.step, progress.seconds = step, time.monotonic() - begun
        progress.scaler = scaler.state_dict()
        if ranks.writes:
            checkpoint.save_state(folder / "last", progress, network, averaged, optimiser)

    with sampler, ThreadPoolExecutor(1) as ahead, StopRequest() as stop:
        coming = ahead.submit(sampler.batch, done)
        for step in range(done, steps):
            batch: Batch = coming.result()
            coming = ahead.submit(sampler.batch, step + 1)
            torch.manual_seed(seed_of(recipe.seed, fold, step + 1))
            for group, rate in zip(optimiser.param_groups, base_rates, strict=True):
                group["lr"] = rate * rate_factor(recipe.schedule, step, steps)
            network.train()
            optimiser.zero_grad(set_to_none=True)
            value = 0.0
            for tiles, labels, share in _micro_batches(recipe, batch, weights, device, ranks):
                try:
                    with torch.autocast(device.type, reduced, enabled=reduced is not None):
                        out = forward(tiles)
                    core = core_of(out.logits.float(), recipe.tile.core_px)
                    loss = segmentation_loss(recipe.loss, core, labels, weights, share, ranks)
                    if out.auxiliary is not None and isinstance(recipe.network, DeepLabV2Config):
                        core = core_of(out.auxiliary.float(), recipe.tile.core_px)
                        loss = loss + recipe.network.auxiliary_loss * segmentation_loss(
                            recipe.loss, core, labels, weights, share, ranks
                        )
                    value += float(loss.detach())
                    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                except (torch.OutOfMemoryError, MemoryError) as error:
                    raise TrainingError(
                        f"{folder}: out of memory on {device} with {len(tiles)} tiles of {tiles.shape[-1]} px at once. "
                        f"Remedy: --set micro_batch={max(1, len(tiles) // 2)}, or a smaller tile.core_px."
                    ) from error
            value, stops = ranks.mean(value, float(stop.made))
            if not math.isfinite(value):
                raise TrainingError(
                    f"{folder}: the loss became {value} at step {step + 1}, on tiles of {', '.join(batch.sources)}, with a "
                    f"rate of {optimiser.param_groups[-1]['lr']:.2e}. The weights of step {progress.step} are kept. "
                    "Remedy: a lower optimiser.learning_rate and another --out."
                )
            scaler.step(optimiser)
            scaler.update()
            average_weights(averaged, network, recipe.ema_decay, step)
            progress.running += value
            report(step + 1, steps, f"loss {value:.3f}")

            if (step + 1) % recipe.validate_every == 0 or step + 1 == steps:
                since = step + 1 - (history[-1]["step"] if history else 0)
                scored = _with_weights(network, averaged, lambda: score(network, held_out, recipe, len(phases), ranks))
                values = iou(scored.confusion)
                history.append({"step": step + 1, "loss": progress.running / since, "miou": mean_iou(scored.confusion)})
                history[-1] |= {f"iou_{p.name}": or_none(v) for p, v in zip(phases, values, strict=True)}
                progress.running = 0.0
                if history[-1]["miou"] > progress.best.get("miou", -1.0):
                    progress.best = dict(history[-1])
                    if ranks.writes:
                        checkpoint.save_model(folder / "model.safetensors", averaged)
                if ranks.writes:
                    write_history(folder, history)
                save(step + 1)
            if stops:
                save(step + 1)
                raise KeyboardInterrupt

    ranks.wait()
    checkpoint.load_model(folder / "model.safetensors", network)
    scored = score(network, held_out, recipe, len(phases), ranks)
    info = fold_info(fold, scored.confusion, phases, folder / "model.safetensors")
    fingerprint = Fingerprint(fold=fold, mean=scored.features.mean(0).tolist(), std=scored.features.std(0).tolist())
    result = FoldResult(info, fingerprint, progress.seconds)
    written = {"info": info.model_dump(), "fingerprint": fingerprint.model_dump(), "seconds": progress.seconds}
    if ranks.writes:
        write_json(folder / "fold.json", written)
    ranks.wait()
    return result


def fold_info(index: int, confusion: NDArray[np.int64], phases: Sequence[PhaseInfo], weights: Path) -> FoldInfo:
    """What a run says of a fold: scores on its held-out fields, and the hash of its weights file."""
    values = iou(confusion)
    return FoldInfo(
        index=index,
        miou=mean_iou(confusion),
        iou={phase.name: or_none(value) for phase, value in zip(phases, values, strict=True)},
        weights_sha256=sha256_of(weights),
    )


def steps_of(recipe: Recipe, fields: Sequence[LabelledField]) -> int:
    """Steps of a fold; an epoch is as many tiles as cover its fields."""
    if recipe.steps is not None:
        return recipe.steps
    assert recipe.epochs is not None
    return recipe.epochs * math.ceil(len(grid_of(fields, recipe.tile.core_px)) / recipe.batch)


def reduced_precision(device: torch.device) -> torch.dtype | None:
    """bf16 where the hardware has it, else fp16 (which needs a scaled loss); None on a CPU."""
    if device.type != "cuda":
        return None
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """Learning rate over its base at `step` (0 ... steps - 1)."""
    warm = schedule.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    t = (step - warm) / max(steps - warm, 1)
    match schedule.kind:
        case "constant":
            return 1.0
        case "polynomial":
            return float((1 - t) ** schedule.power)
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * t))


@dataclass(frozen=True)
class Score:
    """Pooled confusion (P, P) on the network's grid, and features (fields, D)."""

    confusion: NDArray[np.int64]
    features: NDArray[np.float32]


def score(
    network: Network, held_out: Sequence[LabelledField], recipe: Recipe, phases: int, ranks: Ranks = ALONE
) -> Score:
    """Whole stitched fields, pooled; the ranks share them."""
    network.eval()
    mine = []
    for field in ranks.share(held_out):
        probability, feature = predict_field([network], field.image, network.stride, recipe.halo_px)
        mine.append((confusion_matrix(field.labels, probability[0].argmax(0).astype(np.uint8), phases), feature[0]))
    confusions, features = zip(*ranks.gathered(mine, len(held_out)), strict=True)
    return Score(np.sum(confusions, axis=0), np.stack(features))


class Share(NamedTuple):
    """What part of a batch a micro-batch is: of the labelled pixels of all ranks (weighted), and of this rank's tiles."""

    labelled: Tensor | float
    tiles: float


WHOLE = Share(1.0, 1.0)


def _micro_batches(
    recipe: Recipe, batch: Batch, weights: Tensor | None, device: torch.device, ranks: Ranks
) -> Iterator[tuple[Tensor, Tensor, Share]]:
    """Tiles, labels, and their share, such that losses times shares, averaged over the ranks, are the batch's loss."""
    count, size = len(batch.tiles), recipe.micro_batch or recipe.batch
    labels = torch.from_numpy(batch.labels).to(device).long()
    total = ranks.total(mass(labels, weights)).clamp(min=1)
    for start in range(0, count, size):
        part = slice(start, start + size)
        tiles = torch.from_numpy(batch.tiles[part]).to(device).float().contiguous(memory_format=torch.channels_last)
        labelled = ranks.size * mass(labels[part], weights) / total
        yield tiles, labels[part], Share(labelled, len(tiles) / count)


def segmentation_loss(
    config: CrossEntropy | Focal,
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    share: Share = WHOLE,
    ranks: Ranks = ALONE,
) -> Tensor:
    """The recipe's loss of logits (N, P, H, W) and labels int64 (N, H, W), or a micro-batch's share of it."""
    match config:
        case CrossEntropy(dice=dice):
            loss = share.labelled * cross_entropy(logits, labels, weights)
            return loss + share.tiles * dice * soft_dice(logits, labels, ranks.total) if dice else loss
        case Focal(gamma=gamma):
            return share.labelled * focal(logits, labels, gamma)


def phase_weights(recipe: Recipe, fields: Sequence[LabelledField], phases: int, device: torch.device) -> Tensor | None:
    """Weights (P,) of the phases in the recipe's loss, mean 1, or None where it has none."""
    if not isinstance(recipe.loss, CrossEntropy) or not recipe.loss.balance:
        return None
    weights = np.maximum(phase_frequencies(fields, phases), 1e-6) ** -recipe.loss.balance
    return torch.tensor(weights / weights.mean(), dtype=torch.float32, device=device)


def average_weights(averaged: dict[str, Tensor], network: nn.Module, decay: float, step: int) -> None:
    """Exponential moving average of the weights; short memory at first, so that the start is forgotten."""
    keep = min(decay, (1 + step) / (10 + step)) if decay else 0.0
    for key, value in network.state_dict().items():
        if value.dtype.is_floating_point:
            averaged[key].lerp_(value, 1 - keep)
        else:
            averaged[key].copy_(value)


def _with_weights(network: nn.Module, weights: dict[str, Tensor], use: Callable[[], Any]) -> Any:
    """Call `use` while the network holds `weights`, then give it its own back."""
    own = {key: value.detach().clone() for key, value in network.state_dict().items()}
    network.load_state_dict(weights)
    try:
        return use()
    finally:
        network.load_state_dict(own)


def seed_of(*parts: int) -> int:
    """One seed from several numbers, for torch."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def or_none(value: float) -> float | None:
    """The value, None for NaN."""
    return None if math.isnan(value) else float(value)
