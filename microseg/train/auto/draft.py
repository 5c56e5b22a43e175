"""A recipe whose length is open, with its folds, and the search among recipes of several scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import load_domain, prepared_and_labels
from microseg.core.domains.folds import Split
from microseg.core.domains.phases import UNLABELLED
from microseg.core.preparation.prepared_field import labels_to_native
from microseg.core.schemas.automatic import Speed, Trial
from microseg.core.schemas.preparation import Grid
from microseg.train.auto.budget import TrainingWork
from microseg.train.auto.rules import Circumstances
from microseg.train.auto.search import Contender, search, search_rounds
from microseg.train.common.data import TrainingData, load_training_data
from microseg.train.common.datasets import LabelledField
from microseg.train.common.progress import FoldCallback
from microseg.train.common.recipe import Recipe
from microseg.train.supervised.loop import SupervisedFold

# Pixels of the held-out fields that score a candidate.
_SCORED_PX = 3_000_000


@dataclass(frozen=True)
class Draft:
    """A recipe whose length is open.

    recipe: The recipe.
    data: The labelled fields on its grid, in its folds.
    workers: Processes that train.
    """

    recipe: Recipe
    data: TrainingData
    workers: int

    @cached_property
    def jobs(self) -> list[SupervisedFold]:
        """The folds, without folders."""
        return _jobs(self.recipe, self.data)

    @cached_property
    def scored(self) -> list[LabelledField]:
        """The held-out fields that score a candidate of the search."""
        return _scored(self.jobs[0])

    @property
    def work(self) -> TrainingWork:
        """What is trained. Of blocks, every fold predicts the whole field."""
        megapixels = sum(item.area_px for item in self.data.fields) / 1e6
        times = self.recipe.folds if self.recipe.split == "blocks" else 1
        return TrainingWork(self.recipe.folds, self.workers, megapixels * times)


def draft_of(source: Path, recipe: Recipe, given: Circumstances) -> Draft:
    """Read the labelled fields for a recipe. Raises InputError."""
    data = load_training_data(source, recipe.scale, recipe.folds, split=recipe.split)
    return Draft(recipe, data, workers_for(recipe, given))


def rounds_of(seconds: float, scales: Sequence[float], draft: Draft, speed: Speed) -> tuple[int, ...]:
    """Rounds of the search; none where there is nothing to compare, or no time."""
    if len(scales) == 1:
        return ()
    megapixels = sum(item.area_px for item in draft.scored) / 1e6
    return search_rounds(seconds, len(scales), draft.workers, speed, megapixels)


def trials_of(
    source: Path, draft: Draft, recipes: Sequence[Recipe], rounds: Sequence[int], on_trial: FoldCallback
) -> list[Trial]:
    """The search among recipes of several scales, on the first fold."""
    names = [item.field.name for item in draft.scored]
    candidates = [_candidate(source, recipe, names) for recipe in recipes]
    return search(candidates, _truth(source, draft.scored, draft.recipe.split), rounds, draft.workers, on_trial)


def _jobs(recipe: Recipe, data: TrainingData) -> list[SupervisedFold]:
    """The folds of a recipe, without folders."""
    return [
        SupervisedFold(recipe, data.phases, data.seen(fold), data.unseen(fold), fold, Path())
        for fold in range(recipe.folds)
    ]


def _scored(job: SupervisedFold) -> list[LabelledField]:
    """Held-out fields that the search scores: evenly chosen, at least two where there are, about `_SCORED_PX` pixels."""
    fields = job.held_out
    mean = sum(item.area_px for item in fields) / len(fields)
    count = min(len(fields), max(2, round(_SCORED_PX / mean)))
    return [fields[i * len(fields) // count] for i in range(count)]


def _candidate(source: Path, recipe: Recipe, names: Sequence[str]) -> Contender:
    job = _jobs(recipe, load_training_data(source, recipe.scale, recipe.folds, split=recipe.split))[0]
    held_out = {item.field.name: item for item in job.held_out}
    return Contender(f"scale {recipe.scale:g}", recipe.scale, job, [held_out[name] for name in names])


def _truth(source: Path, fields: Sequence[LabelledField], split: Split) -> list[NDArray[np.uint8]]:
    """Labels of the fields at their native size, uint8 (H, W); of blocks, what the fold holds out."""
    domain = load_domain(source)
    truth = [prepared_and_labels(item.field, domain, Grid())[1] for item in fields]
    if split != "blocks":
        return truth
    held_out = [
        labels_to_native(item.labels, (at.shape[0], at.shape[1])) for item, at in zip(fields, truth, strict=True)
    ]
    return [np.where(own == UNLABELLED, own, at) for own, at in zip(held_out, truth, strict=True)]


def workers_for(recipe: Recipe, given: Circumstances) -> int:
    """The most processes that are all busy to the end."""
    return max(w for w in range(1, given.workers + 1) if recipe.folds % w == 0)
