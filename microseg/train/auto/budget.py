"""The budget of minutes: how long a step and a prediction take on this machine, and how many steps fit."""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from microseg.core.schemas.automatic import Speed
from microseg.core.system.files import write_json
from microseg.train.common.parallel.folds import train_folds
from microseg.train.common.parallel.ranks import ALONE, Ranks
from microseg.train.common.progress import ProgressCallback, no_fold_progress
from microseg.train.supervised.loop import SupervisedFold, train_fold

LEAST_STEPS = 10
# Beyond, a fold only repeats what it knows: steps of 6 tiles of 160 px.
MOST_STEPS = 4000
# The first steps of a process allocate memory and choose algorithms.
_WARM_UP, _TIMED = 2, 6
_MOST_VALIDATIONS = 4
# Largest share of a fold's time that validations take, the last one left out.
_VALIDATION_SHARE = 0.08
_SPEED_FILE = "speed.json"


@dataclass(frozen=True)
class TrainingWork:
    """What is trained, for the forecast.

    folds: Number of folds.
    workers: Processes that train side by side.
    megapixels: Million pixels of all labelled fields on the network's grid.
    """

    folds: int
    workers: int
    megapixels: float

    @property
    def rounds(self) -> int:
        """Times that all workers are busy."""
        return math.ceil(self.folds / self.workers)


@dataclass(frozen=True)
class Forecast:
    """The length of the training of all folds.

    steps: Steps of each fold.
    validate_every: Steps between two validations.
    seconds: Expected time until all folds are trained and the run is evaluated.
    """

    steps: int
    validate_every: int
    seconds: float


def forecast(speed: Speed, work: TrainingWork, seconds: float, steps: int | None = None) -> Forecast:
    """The steps that fit into a time.

    Args:
        speed: Speed of the machine.
        work: What is trained.
        seconds: Time that is left.
        steps: Steps of each fold, where they are given.

    Returns:
        At least `LEAST_STEPS` steps, even if they do not fit, and at most `MOST_STEPS`.
    """
    scoring = work.megapixels / work.folds * speed.megapixel_s
    # The end of every fold is scored, and the run once more.
    fixed = work.rounds * (speed.start_s + scoring) + work.folds * scoring
    fold_s = max(0.0, seconds - fixed) / work.rounds
    validations = max(1, min(_MOST_VALIDATIONS, 1 + int(_VALIDATION_SHARE * fold_s / scoring)))
    if steps is None:
        fitting = (fold_s - (validations - 1) * scoring) / speed.step_s
        steps = max(LEAST_STEPS, min(MOST_STEPS, int(fitting)))
    every = math.ceil(steps / validations)
    taken = math.ceil(steps / every)
    return Forecast(steps, every, fixed + work.rounds * (steps * speed.step_s + (taken - 1) * scoring))


@dataclass(frozen=True)
class TimedFold:
    """A few steps of a fold, timed in a process like the one that will train it.

    job: The fold, with a scratch folder.
    clock: Seconds, monotonic.
    """

    job: SupervisedFold
    clock: Callable[[], float]

    @property
    def fold(self) -> int:
        """Number of the fold."""
        return self.job.fold

    @property
    def folder(self) -> Path:
        """Scratch folder of the fold."""
        return self.job.folder

    def ranks_at_most(self, workers: int) -> int:
        """One process times a fold."""
        return 1

    def run(self, progress: ProgressCallback, ranks: Ranks = ALONE) -> None:
        """Train, and write the speed into the folder."""
        ends = [self.clock()]
        train_fold(self.job, lambda *_: ends.append(self.clock()), clock=self.clock)
        steps = [after - before for before, after in zip(ends[_WARM_UP:], ends[_WARM_UP + 1 :], strict=False)]
        megapixels = sum(item.area_px for item in self.job.held_out) / 1e6
        speed = {
            "step_s": median(steps),
            "megapixel_s": (self.clock() - ends[-1]) / megapixels,
            "start_s": ends[1] - ends[0],
        }
        write_json(self.folder / _SPEED_FILE, speed)


def measured_speed(jobs: Sequence[SupervisedFold], workers: int, clock: Callable[[], float] = time.monotonic) -> Speed:
    """Time a few steps of as many folds as train side by side.

    Args:
        jobs: The folds.
        workers: Processes that train.
        clock: Seconds, monotonic.

    Returns:
        The medians over the folds.
    """
    steps = _WARM_UP + _TIMED
    with tempfile.TemporaryDirectory(prefix="microseg-") as scratch:
        timed = []
        for job in jobs[:workers]:
            recipe = job.recipe.model_copy(update={"steps": steps, "epochs": None, "validate_every": steps})
            folder = Path(scratch) / f"fold{job.fold}"
            timed.append(TimedFold(replace(job, recipe=recipe, held_out=job.held_out[:1], folder=folder), clock))
        train_folds(timed, len(timed), no_fold_progress)
        found = [json.loads((job.folder / _SPEED_FILE).read_text(encoding="utf-8")) for job in timed]
    return Speed(**{key: median(item[key] for item in found) for key in ("step_s", "megapixel_s", "start_s")})
