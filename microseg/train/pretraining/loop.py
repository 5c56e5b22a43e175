"""The training loop of `microseg train pretrain`: an encoder learns to classify micrographs before it learns to segment."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from microseg.core.schemas.run import PretrainSummary
from microseg.core.system.files import sha256_of, write_json
from microseg.models.classifier import Classifier
from microseg.train.common import checkpoint
from microseg.train.common.curves import write_history
from microseg.train.common.optimiser_step import OptimiserStep, training_device
from microseg.train.common.parallel.stopping import StopRequest
from microseg.train.common.progress import ProgressCallback, no_progress
from microseg.train.common.schedule import seed_of
from microseg.train.pretraining.classified_data import ClassifiedFile, ClassifiedImages, CutSampler, centre_cut
from microseg.train.pretraining.recipe import PretrainRecipe


@dataclass(frozen=True)
class EncoderTraining:
    """Everything that the pre-training of an encoder takes.

    recipe: The recipe of the pre-training.
    classes: Names of the classes.
    files: The classified micrographs.
    images: Reads them.
    out: The run folder.
    """

    recipe: PretrainRecipe
    classes: Sequence[str]
    files: Sequence[ClassifiedFile]
    images: ClassifiedImages
    out: Path


def train_encoder(
    job: EncoderTraining,
    progress: ProgressCallback = no_progress,
    *,
    clock: Callable[[], float] = time.monotonic,
) -> PretrainSummary:
    """Train one encoder, or go on where an earlier process stopped.

    Writes encoder.safetensors (the best snapshot), history.csv, summary.json and last/ into the run folder.

    Args:
        job: The encoder.
        progress: Called after every step.
        clock: Seconds, monotonic.

    Raises:
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    recipe, out, device = job.recipe, job.out, training_device()
    torch.manual_seed(seed_of(recipe.seed, 0))
    network = Classifier(recipe.encoder.name, len(job.classes), recipe.encoder.weights, recipe.dropout)
    network = network.to(device).to(memory_format=torch.channels_last)
    update = OptimiserStep(
        torch.optim.Adam(network.parameters(), lr=recipe.learning_rate), device, out,
        mixed_precision=recipe.mixed_precision, rate_key="learning_rate",
    )  # fmt: skip
    training = [file for file in job.files if not file.is_validation]
    sampler = CutSampler(
        training, job.images, recipe.augmentation, tile_px=recipe.tile_px, batch=recipe.batch, seed=(recipe.seed,)
    )
    state = checkpoint.load_state(out / "last", network, {}, update.optimiser)
    update.restore(state.scaler)
    steps = recipe.steps or (recipe.epochs or 0) * math.ceil(len(training) / recipe.batch)
    begun, micro = clock() - state.seconds, recipe.micro_batch or recipe.batch

    def save(step: int) -> None:
        state.step, state.seconds, state.scaler = step, clock() - begun, update.state()
        checkpoint.save_state(out / "last", state, network, {}, update.optimiser)

    with ThreadPoolExecutor(1) as ahead, StopRequest() as stop:
        coming = ahead.submit(sampler.batch, state.step)
        for step in range(state.step, steps):
            batch = coming.result()
            coming = ahead.submit(sampler.batch, step + 1)
            torch.manual_seed(seed_of(recipe.seed, step + 1))
            network.train()
            update.begin()
            value = 0.0
            for start in range(0, recipe.batch, micro):
                tiles = torch.from_numpy(batch.tiles[start : start + micro]).to(device).float()
                labels = torch.from_numpy(batch.labels[start : start + micro]).to(device)
                truth = F.one_hot(labels, len(job.classes)).float()
                remedy = f"--set micro_batch={max(1, len(tiles) // 2)}, or a smaller tile_px"
                with update.memory_guard(f"{len(tiles)} cuts of {recipe.tile_px} px at once", remedy):
                    with update.autocast():
                        logits = network.forward_any_size(tiles.contiguous(memory_format=torch.channels_last)).logits
                    loss = F.binary_cross_entropy_with_logits(logits.float(), truth) * len(tiles) / recipe.batch
                    value += float(loss.detach())
                    update.backward(loss)
            update.finish(value, step + 1, state.step, f", on {', '.join(batch.sources[:5])}")
            state.running += value
            progress(step + 1, steps, f"loss {value:.3f}")

            if (step + 1) % recipe.validate_every == 0 or step + 1 == steps:
                if _add_to_history(state, step + 1, _confusion(network, job, device)):
                    checkpoint.save_model(out / "encoder.safetensors", network.encoder.state_dict())
                write_history(out, state.history)
                save(step + 1)
            if stop.made:
                save(step + 1)
                raise KeyboardInterrupt
    return _summary(job, state)


def _add_to_history(state: checkpoint.FoldState, step: int, confusion: NDArray[np.int64]) -> bool:
    """Add a row to the learning curve. Returns whether its accuracy is the best so far."""
    since = step - (state.history[-1]["step"] if state.history else 0)
    # Mean over classes of the share that is recognised, so that a rare class counts as much as any other.
    accuracy = float(np.mean(np.diag(confusion) / confusion.sum(1)))
    state.history.append({"step": step, "loss": state.running / since, "accuracy": accuracy})
    state.running = 0.0
    is_best = accuracy > state.best.get("accuracy", -1.0)
    if is_best:
        state.best = state.history[-1] | {"confusion": confusion.tolist()}
    return bool(is_best)


def _confusion(network: Classifier, job: EncoderTraining, device: torch.device) -> NDArray[np.int64]:
    """Confusion int64 (classes, classes) of the middles of all validation files. Rows are true classes."""
    network.eval()
    confusion = np.zeros((len(job.classes), len(job.classes)), np.int64)
    for file in job.files:
        if file.is_validation:
            tile = torch.from_numpy(centre_cut(job.images.read(file.path), job.recipe.tile_px))[None, None].to(device)
            with torch.inference_mode():
                confusion[file.label, int(network.forward_any_size(tile).logits.argmax(1))] += 1
    return confusion


def _summary(job: EncoderTraining, state: checkpoint.FoldState) -> PretrainSummary:
    """Write summary.json, which marks the run as finished."""
    summary = PretrainSummary(
        task="pretrain",
        encoder=job.recipe.encoder.name,
        init=job.recipe.encoder.weights,
        classes=list(job.classes),
        accuracy=state.best["accuracy"],
        confusion=state.best["confusion"],
        weights_sha256=sha256_of(job.out / "encoder.safetensors"),
        seconds=state.seconds,
    )
    write_json(job.out / "summary.json", summary.model_dump(mode="json"))
    return summary
