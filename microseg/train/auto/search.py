"""The short search where rules cannot know: candidates on one fold, by successive halving (Jamieson and Talwalkar 2016)."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.evaluation.metrics import confusion_matrix, mean_iou
from microseg.core.preparation.prepared_field import labels_to_native
from microseg.core.schemas.automatic import Speed, Trial
from microseg.train.common import checkpoint
from microseg.train.common.datasets import LabelledField
from microseg.train.common.parallel.folds import train_folds
from microseg.train.common.prediction import predict_field
from microseg.train.common.progress import FoldCallback
from microseg.train.common.run_folder import load_network
from microseg.train.common.score import or_none
from microseg.train.supervised.loop import SupervisedFold

# A candidate replaces the rules' choice where it is better by more than this mIoU: one fold and few steps leave noise.
MARGIN = 0.01
# Candidates that go on after the first round.
KEPT = 2
# A shorter round shows which scale learns faster, not which one is better: on four fields of
# superalloy, a few dozen steps gave 0.43 at full scale and 0.79 at 0.7. On all its fields, hundreds of steps prefer full scale.
LEAST_STEPS = 75


@dataclass(frozen=True)
class Contender:
    """One way to train, tried on one fold.

    name: What distinguishes it, such as `scale 0.5`.
    scale: Network pixels per native pixel.
    job: The fold, on this candidate's grid. Its folder is replaced, and the loop scores one field alone.
    scored: The held-out fields that decide.
    """

    name: str
    scale: float
    job: SupervisedFold
    scored: Sequence[LabelledField]


def search(
    candidates: Sequence[Contender],
    truth: Sequence[NDArray[np.uint8]],
    rounds: Sequence[int],
    workers: int,
    on_fold: FoldCallback,
    train: Callable[[Sequence[SupervisedFold], int, FoldCallback], None] = train_folds,
) -> list[Trial]:
    """Train all candidates for a while, then the better ones longer.

    Args:
        candidates: The rules' choice first.
        truth: Labels of the scored fields at their native size, each uint8 (H, W).
        rounds: Steps after each round, rising. After the first one the better `KEPT` go on.
        workers: Processes that train.
        on_fold: Gives the progress callback of a candidate, by its number.
        train: Trains jobs; replaced in tests.

    Returns:
        One trial for each candidate, in their order.
    """
    scores: list[list[float]] = [[] for _ in candidates]
    going = list(range(len(candidates)))
    with tempfile.TemporaryDirectory(prefix="microseg-") as scratch:
        for steps in rounds:
            jobs = [_round(candidates[i].job, i, steps, Path(scratch)) for i in going]
            train(jobs, min(workers, len(jobs)), on_fold)
            for i, job in zip(going, jobs, strict=True):
                scores[i].append(native_miou(job, candidates[i].scored, truth))
            # A difference within the margin does not drop the rules' choice, which comes first.
            going.sort(key=lambda i: -(scores[i][-1] + (MARGIN if i == 0 else 0)))
            going = sorted(going[:KEPT])
    return [
        Trial(name=item.name, scale=item.scale, scores=[or_none(value) for value in found])
        for item, found in zip(candidates, scores, strict=True)
    ]


def search_rounds(seconds: float, candidates: int, workers: int, speed: Speed, megapixels: float) -> tuple[int, ...]:
    """Steps after each of two rounds that fit into a time.

    Args:
        seconds: Time of the search.
        candidates: Candidates of the first round.
        workers: Processes that train.
        speed: Speed of this machine.
        megapixels: Million pixels of the scored fields.

    Returns:
        Nothing where a round would be too short to tell candidates apart.
    """
    first, second = math.ceil(candidates / workers), math.ceil(min(KEPT, candidates) / workers)
    overhead = (first + second) * speed.start_s + (candidates + KEPT) * megapixels * speed.megapixel_s
    steps = int((seconds - overhead) / ((first + second) * speed.step_s))
    return (steps, 2 * steps) if steps >= LEAST_STEPS else ()


def best(trials: Sequence[Trial]) -> Trial:
    """The trial to go on with: the rules' choice, unless another one that went as far is better by `MARGIN`."""
    longest = max(len(trial.scores) for trial in trials)
    first = trials[0]
    rivals = [trial for trial in trials if len(trial.scores) == longest]
    winner = max(rivals, key=_last_score)
    is_close = len(first.scores) == longest and _last_score(winner) <= _last_score(first) + MARGIN
    return first if is_close else winner


def _last_score(trial: Trial) -> float:
    value = trial.scores[-1]
    return -1.0 if value is None else value


def _round(job: SupervisedFold, number: int, steps: int, scratch: Path) -> SupervisedFold:
    """A candidate's fold up to so many steps. A constant rate lets it go on in the next round as if it were one training."""
    schedule = job.recipe.schedule.model_copy(update={"kind": "constant"})
    recipe = job.recipe.model_copy(
        update={"steps": steps, "epochs": None, "validate_every": steps, "schedule": schedule}
    )
    smallest = min(job.held_out, key=lambda item: item.area_px)
    return replace(job, recipe=recipe, held_out=[smallest], fold=number, folder=scratch / f"candidate{number}")


def native_miou(job: SupervisedFold, fields: Sequence[LabelledField], truth: Sequence[NDArray[np.uint8]]) -> float:
    """The mIoU, 0-1, of the last weights of a fold on fields at their native size, where candidates of any scale compare.

    Args:
        job: The fold.
        fields: Fields that it has not seen.
        truth: Their labels, each uint8 (H, W).
    """
    phases = len(job.phases)
    network = load_network(job.recipe, phases, job.folder / "model.safetensors")
    checkpoint.load_average(job.folder / "last", network)
    pooled = np.zeros((phases, phases), np.int64)
    for item, labels in zip(fields, truth, strict=True):
        probability, _ = predict_field([network], item.image, network.stride, job.recipe.halo_px)
        found = labels_to_native(probability[0].argmax(0).astype(np.uint8), (labels.shape[0], labels.shape[1]))
        pooled += confusion_matrix(labels, found, phases)
    return mean_iou(pooled)
