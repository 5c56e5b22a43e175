"""`microseg train pretrain`: an encoder learns to tell classes of micrographs apart before it learns to segment."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from microseg.core.errors import InputError, TrainingError
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.preparation import Crop, Grid, Preparation
from microseg.core.schemas.run import PretrainSummary
from microseg.core.system.files import read_yaml, sha256_of, write_json, write_text, write_yaml
from microseg.models.classifier import Classifier
from microseg.train.common import checkpoint
from microseg.train.common.curves import write_history
from microseg.train.common.recipe import PretrainRecipe
from microseg.train.common.stopping import StopRequest
from microseg.train.pretraining.classified_data import (
    ClassifiedFile,
    ClassifiedImages,
    CutSampler,
    centre_cut,
    find_classes,
    is_annotated,
)
from microseg.train.supervised.loop import Report, reduced_precision, seed_of

Annotated = Literal["list", "refuse"]


@dataclass(frozen=True)
class Pretrained:
    """What a pre-training run found: its summary, and the files that seem to carry burned-in annotations."""

    summary: PretrainSummary
    annotated: list[str]


def run_pretrain(
    folder: Path,
    recipe_name: str,
    recipe: PretrainRecipe,
    out: Path,
    *,
    resume: bool,
    crop_bottom_px: int = 0,
    annotated: Annotated | None = None,
    report: Report = lambda step, steps, text: None,
    notice: Callable[[str], None] = lambda text: None,
) -> Pretrained:
    """Train an encoder on the classes of `folder` into `out`: encoder.safetensors (best), history.csv, summary.json.

    `annotated` looks for burned-in text: `list` names such images, `refuse` leaves them out as well. A finished run is
    left as it is. Raises InputError: no classes, an unreadable image, `out` in use. TrainingError: a loss that is no
    number, or no memory.
    """
    if out.exists() and not resume and any(out.iterdir()):
        raise InputError(f"{out}: exists. Remedy: --resume to continue it, or another --out.")
    names, files = find_classes(folder, recipe.validation_share, recipe.seed)
    preparation = Preparation(crop=Crop(bottom_px=crop_bottom_px))
    found = _annotated(files, preparation, notice) if annotated else set()
    if annotated == "refuse":
        names, files = find_classes(folder, recipe.validation_share, recipe.seed, found)
    listed = [path.relative_to(folder).as_posix() for path in sorted(found)]
    record = {
        "task": "pretrain",
        "recipe_name": recipe_name,
        "recipe": recipe.model_dump(mode="json"),
        "classes": names,
        "crop_bottom_px": crop_bottom_px,
        "annotated": {"treated": annotated or "not looked for", "files": listed},
        "source": str(folder.resolve()),
        "dataset_sha256": _dataset_hash(files, folder),
    }
    if (out / "run.yaml").is_file():
        if read_yaml(out / "run.yaml") != record:
            raise InputError(f"{out}: holds another run. Remedy: the same command as before, or another --out.")
    else:
        write_yaml(out / "run.yaml", record)
        write_text(out / ".gitignore", "*\n")
    if (out / "summary.json").is_file():
        return Pretrained(PretrainSummary.model_validate_json((out / "summary.json").read_text("utf-8")), listed)
    return Pretrained(_train(names, files, preparation, recipe, out, report), listed)


def _train(
    names: list[str],
    files: list[ClassifiedFile],
    preparation: Preparation,
    recipe: PretrainRecipe,
    out: Path,
    report: Report,
) -> PretrainSummary:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(seed_of(recipe.seed, 0))
    network = Classifier(recipe.encoder.name, len(names), recipe.encoder.weights, recipe.dropout)
    network = network.to(device).to(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    reduced = reduced_precision(device) if recipe.mixed_precision else None
    scaler = torch.amp.GradScaler(device.type, enabled=reduced == torch.float16)
    images = ClassifiedImages(preparation, recipe.scale)
    training = [file for file in files if not file.is_validation]
    sampler = CutSampler(
        training, images, recipe.augmentation, tile_px=recipe.tile_px, batch=recipe.batch, seed=(recipe.seed,)
    )
    progress = checkpoint.load_state(out / "last", network, {}, optimiser)
    if progress.scaler:
        scaler.load_state_dict(progress.scaler)
    steps = recipe.steps or (recipe.epochs or 0) * math.ceil(len(training) / recipe.batch)
    history, begun = progress.history, time.monotonic() - progress.seconds
    micro = recipe.micro_batch or recipe.batch

    def save(step: int) -> None:
        progress.step, progress.seconds = step, time.monotonic() - begun
        progress.scaler = scaler.state_dict()
        checkpoint.save_state(out / "last", progress, network, {}, optimiser)

    with ThreadPoolExecutor(1) as ahead, StopRequest() as stop:
        coming = ahead.submit(sampler.batch, progress.step)
        for step in range(progress.step, steps):
            batch = coming.result()
            coming = ahead.submit(sampler.batch, step + 1)
            torch.manual_seed(seed_of(recipe.seed, step + 1))
            network.train()
            optimiser.zero_grad(set_to_none=True)
            value = 0.0
            for start in range(0, recipe.batch, micro):
                tiles = torch.from_numpy(batch.tiles[start : start + micro]).to(device).float()
                truth = F.one_hot(torch.from_numpy(batch.labels[start : start + micro]).to(device), len(names)).float()
                try:
                    with torch.autocast(device.type, reduced, enabled=reduced is not None):
                        logits = network.forward_any_size(tiles.contiguous(memory_format=torch.channels_last)).logits
                    loss = F.binary_cross_entropy_with_logits(logits.float(), truth) * len(tiles) / recipe.batch
                    value += float(loss.detach())
                    scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
                except (torch.OutOfMemoryError, MemoryError) as error:
                    raise TrainingError(
                        f"{out}: out of memory on {device} with {len(tiles)} cuts of {recipe.tile_px} px at once. "
                        f"Remedy: --set micro_batch={max(1, len(tiles) // 2)}, or a smaller tile_px."
                    ) from error
            if not math.isfinite(value):
                raise TrainingError(
                    f"{out}: the loss became {value} at step {step + 1}, on {', '.join(batch.sources[:5])}. The weights "
                    f"of step {progress.step} are kept. Remedy: a lower learning_rate and another --out."
                )
            scaler.step(optimiser)
            scaler.update()
            progress.running += value
            report(step + 1, steps, f"loss {value:.3f}")

            if (step + 1) % recipe.validate_every == 0 or step + 1 == steps:
                since = step + 1 - (history[-1]["step"] if history else 0)
                confusion = _confusion(network, files, images, recipe, len(names), device)
                history.append({"step": step + 1, "loss": progress.running / since, "accuracy": _accuracy(confusion)})
                progress.running = 0.0
                if history[-1]["accuracy"] > progress.best.get("accuracy", -1.0):
                    progress.best = history[-1] | {"confusion": confusion.tolist()}
                    checkpoint.save_model(out / "encoder.safetensors", network.encoder.state_dict())
                write_history(out, history)
                save(step + 1)
            if stop.made:
                save(step + 1)
                raise KeyboardInterrupt

    summary = PretrainSummary(
        task="pretrain",
        encoder=recipe.encoder.name,
        init=recipe.encoder.weights,
        classes=names,
        accuracy=progress.best["accuracy"],
        confusion=progress.best["confusion"],
        weights_sha256=sha256_of(out / "encoder.safetensors"),
        seconds=progress.seconds,
    )
    write_json(out / "summary.json", summary.model_dump(mode="json"))
    return summary


def _confusion(
    network: Classifier,
    files: list[ClassifiedFile],
    images: ClassifiedImages,
    recipe: PretrainRecipe,
    classes: int,
    device: torch.device,
) -> NDArray[np.int64]:
    """Rows true, columns predicted: the middle of every validation file."""
    network.eval()
    confusion = np.zeros((classes, classes), np.int64)
    for file in files:
        if file.is_validation:
            tile = torch.from_numpy(centre_cut(images.read(file.path), recipe.tile_px))[None, None].to(device)
            with torch.inference_mode():
                confusion[file.label, int(network.forward_any_size(tile).logits.argmax(1))] += 1
    return confusion


def _accuracy(confusion: NDArray[np.int64]) -> float:
    """Mean over classes of the share that is recognised, so that a rare class counts like any other."""
    return float(np.mean(np.diag(confusion) / confusion.sum(1)))


def _annotated(files: list[ClassifiedFile], preparation: Preparation, notice: Callable[[str], None]) -> set[Path]:
    """Files whose native image, below the crop, seems to carry burned-in text. Unreadable ones are for training to name."""
    found = set()
    for file in files:
        notice(f"looking for burned-in text: {file.path.name}")
        with open_prepared(file.path, preparation, Grid()) as prepared:
            if is_annotated(prepared.native_rows(0, prepared.native_shape[0])):
                found.add(file.path)
    return found


def _dataset_hash(files: list[ClassifiedFile], folder: Path) -> str:
    """Of names and sizes: a run that is resumed reads the same files."""
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.path):
        digest.update(f"{file.path.relative_to(folder).as_posix()}:{file.path.stat().st_size}\n".encode())
    return digest.hexdigest()
