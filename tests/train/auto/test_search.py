"""Successive halving: which candidates go on, for how long, and which one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from microseg.core.domains.pairing import DomainField
from microseg.core.schemas.automatic import Speed, Trial
from microseg.train.auto import search as module
from microseg.train.auto.search import LEAST_STEPS, MARGIN, Contender, best, search, search_rounds
from microseg.train.common.datasets import LabelledField
from microseg.train.common.progress import FoldCallback, no_fold_progress
from microseg.train.supervised.loop import SupervisedFold
from tests.chain import tiny_recipe

SPEED = Speed(step_s=1.0, megapixel_s=4.0, start_s=3.0)


def test_the_better_ones_train_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {0: [0.5, 0.6], 1: [0.4], 2: [0.8, 0.9]}
    trained: list[tuple[int, int, str]] = []

    def train(jobs: Sequence[SupervisedFold], workers: int, on_fold: FoldCallback) -> None:
        trained.extend((job.fold, job.recipe.steps or 0, job.recipe.schedule.kind) for job in jobs)

    monkeypatch.setattr(module, "native_miou", lambda job, fields, truth: scores[job.fold].pop(0))
    recipe, image = tiny_recipe(), np.zeros((8, 8), np.uint8)
    field = LabelledField(DomainField("a", Path("a.tif"), None, "a"), "0", image, image)
    job = SupervisedFold(recipe, [], [], [field], 0, Path())
    candidates = [Contender(f"scale {scale}", scale, job, []) for scale in (1.0, 0.7, 0.5)]
    trials = search(candidates, [], (30, 60), 2, no_fold_progress, train=train)
    assert trained == [
        (0, 30, "constant"),
        (1, 30, "constant"),
        (2, 30, "constant"),
        (0, 60, "constant"),
        (2, 60, "constant"),
    ]
    assert [trial.scores for trial in trials] == [[0.5, 0.6], [0.4], [0.8, 0.9]]
    assert best(trials).scale == 0.5


def test_a_difference_within_noise_does_not_drop_the_rules_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = {0: [0.5, 0.9], 1: [0.5 + MARGIN / 2, 0.6], 2: [0.8, 0.7]}
    monkeypatch.setattr(module, "native_miou", lambda job, fields, truth: scores[job.fold].pop(0))
    recipe, image = tiny_recipe(), np.zeros((8, 8), np.uint8)
    field = LabelledField(DomainField("a", Path("a.tif"), None, "a"), "0", image, image)
    job = SupervisedFold(recipe, [], [], [field], 0, Path())
    candidates = [Contender(f"scale {scale}", scale, job, []) for scale in (1.0, 0.7, 0.5)]
    trials = search(candidates, [], (30, 60), 2, no_fold_progress, train=lambda *_: None)
    assert [len(each.scores) for each in trials] == [2, 1, 2] and best(trials).scale == 1.0


def trial(*scores: float | None) -> Trial:
    return Trial(name="scale", scale=1.0, scores=list(scores))


def test_the_rules_choice_stays_within_noise() -> None:
    first, second = trial(0.5, 0.70), trial(0.6, 0.70 + MARGIN / 2)
    assert best([first, second]) is first
    better = trial(0.6, 0.70 + 2 * MARGIN)
    assert best([first, better]) is better
    assert best([trial(0.9), second, better]) is better, "one that was dropped is not taken"
    assert best([trial(None), trial(None)]).scores == [None]


def test_rounds_fit_into_the_time() -> None:
    short, long = search_rounds(450.0, 3, 2, SPEED, 1.0)
    assert long == 2 * short
    rounds = 3  # two for three candidates on two workers, one for the better two
    assert rounds * (short * SPEED.step_s + SPEED.start_s) + 5 * SPEED.megapixel_s <= 450.0
    assert search_rounds(rounds * LEAST_STEPS * 0.9, 3, 2, SPEED, 0.0) == ()
