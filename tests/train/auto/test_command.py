"""`--recipe auto` from domain to evaluated run, with a clock that the test moves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microseg.core.errors import InputError
from microseg.core.schemas.automatic import AutomaticRecipe, Reason, Speed
from microseg.core.schemas.fingerprint import DatasetFingerprint
from microseg.core.schemas.run import read_run
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.auto import command, rules, search
from microseg.train.auto.budget import MOST_STEPS
from microseg.train.auto.command import run_auto
from microseg.train.auto.options import AutoOptions
from microseg.train.auto.reasons import length_reason, reasons_of
from microseg.train.common.optimiser_step import OptimiserStep
from microseg.train.common.score import score_network
from microseg.train.recipe_files import load_recipe
from microseg.train.supervised import loop
from tests.chain import microseg, tiny_domain
from tests.core.samples import write_domain

# What makes a network as small as the tests': the rest is decided.
SMALL = [
    "encoder.weights=none", "network.decoder_channels=[16, 8, 8]", "tile.core_px=48", "tile.halo_px=8", "batch=2", "halo_px=16",
]  # fmt: skip


class Clock:
    """Seconds that pass in steps and predictions alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, step_s: float, field_s: float) -> None:
        self.now = 100.0
        finish, native = OptimiserStep.finish, search.native_miou

        def finished(*arguments: Any) -> None:
            self.now += step_s
            finish(*arguments)

        def scored(network: Any, fields: Sequence[Any], *others: Any) -> Any:
            self.now += field_s * len(fields)
            return score_network(network, fields, *others)

        def evaluated(run: Path, source: Path, **options: Any) -> dict[str, Any]:
            self.now += field_s * len(read_run(run)[0].fields)
            return evaluate_run(run, source, **options)

        def natively(job: Any, fields: Sequence[Any], truth: Any) -> float:
            self.now += field_s * len(fields)
            return native(job, fields, truth)

        monkeypatch.setattr(OptimiserStep, "finish", finished)
        monkeypatch.setattr(loop, "score_network", scored)
        monkeypatch.setattr(command, "evaluate_run", evaluated)
        monkeypatch.setattr(search, "native_miou", natively)

    def __call__(self) -> float:
        return self.now


def test_the_forecast_holds_and_the_run_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_domain(tmp_path / "s")
    clock = Clock(monkeypatch, step_s=10.0, field_s=3.0)
    told: list[str] = []
    options = AutoOptions(minutes=10, settings=[*SMALL, "scale=0.5"], folds=2, seed=3, workers=1)
    begun = clock()
    run_auto(source, options, tmp_path / "run", resume=False, notice=told.append, clock=clock)
    spent = (clock() - begun) / 60
    automatic = AutomaticRecipe.model_validate_json((tmp_path / "run" / "automatic.json").read_text())
    assert automatic.spent_minutes + automatic.expected_minutes == pytest.approx(spent, rel=0.1)
    assert 9 < spent <= 10
    assert automatic.speed.step_s == 10.0 and automatic.trials == []
    record, summary = read_run(tmp_path / "run")
    assert (record.recipe_name, record.seed, record.folds) == ("auto", 3, 2) and record.recipe["scale"] == 0.5
    for text in ("augmentation = randomised", f"2 folds of {record.recipe['steps']} steps", "expected time: "):
        assert any(text in line for line in told), text
    DatasetFingerprint.model_validate_json((tmp_path / "run" / "fingerprint.json").read_text())
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert np.array(scores["confusion"]).sum() == 4 * 180 * 150, "each field once"
    assert [fold["miou"] for fold in scores["folds"]["each"]] != [] and summary.miou_mean > 0
    _check_resumption(source, tmp_path / "run", options, automatic.workers)
    _check_printed_scores(source, tmp_path / "run", scores)
    recipe = load_recipe(str(tmp_path / "run" / "recipe.yaml"))[1]
    assert recipe.model_dump(mode="json") == record.recipe, "the written recipe repeats the run"


def _check_printed_scores(source: Path, run: Path, scores: dict[str, Any]) -> None:
    """The end of the command, also of a run that was finished before: IoU with its spread, and the error of fractions."""
    outcome = microseg("train", "supervised", source, "--out", run, "--resume")
    assert outcome.status == 0 and "already finished" in outcome.out
    rows = outcome.out.partition("All held-out fields")[2].splitlines()
    for phase, value in scores["iou"].items():
        row = next(line for line in rows if phase in line)
        low, high = scores["spread"]["iou"][phase]
        error = 100 * scores["fractions"][phase]["error"]
        assert f"{value:.3f}" in row and f"{low:.3f} to {high:.3f}" in row and f"{error:.2f}" in row
    assert "(0.0 min)" in outcome.out, "the time of this command"
    file = run / "evaluation.json"
    content = file.read_text(encoding="utf-8")
    for damage in ("{", "[]", '{"iou": {}}'):
        file.write_text(damage, encoding="utf-8")
        damaged = microseg("train", "supervised", source, "--out", run, "--resume")
        assert (
            damaged.status == 2 and "evaluation.json: is damaged" in damaged.err and "Remedy: remove it" in damaged.err
        )
    file.write_text(content, encoding="utf-8")


def _check_resumption(source: Path, run: Path, options: AutoOptions, workers: int) -> None:
    """A run that has begun goes on with its own recipe, and with nothing else."""
    record = run / "automatic.json"
    told: list[str] = []
    assert command._begun(run, options, told.append)[1] == workers and told == []
    command._begun(run, replace(options, minutes=99), told.append)
    assert told == ["the run keeps its budget of 10 min; --minutes 99 is for a new one"]
    with pytest.raises(InputError, match="holds a run with another recipe"):
        run_auto(source, replace(options, settings=[*options.settings, "batch=3"]), run, resume=True)
    content = record.read_text()
    record.write_text("{")
    with pytest.raises(InputError, match=r"automatic\.json"):
        run_auto(source, options, run, resume=True)
    record.unlink()  # as where the process was killed between two files
    run_auto(source, options, run, resume=True)
    record.write_text(content)


def test_a_search_takes_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_domain(tmp_path / "s", fields=2)
    clock = Clock(monkeypatch, step_s=4.0, field_s=1.0)
    monkeypatch.setattr(search, "LEAST_STEPS", 2)
    monkeypatch.setattr(rules, "LEAST_CHORD_PX", 1.0)
    options = AutoOptions(minutes=8, settings=SMALL, folds=2, workers=1)
    decision = command.decide(source, options, clock=clock)
    assert len(decision.automatic.trials) >= 2
    assert decision.recipe.scale in {trial.scale for trial in decision.automatic.trials}
    assert clock() - 100 < 0.3 * 8 * 60
    assert any(reason.key == "scale" and "search" in reason.why for reason in decision.automatic.reasons)
    monkeypatch.setattr(search, "LEAST_STEPS", 1000)
    short = command.decide(source, options, clock=clock)
    assert not short.automatic.trials
    assert any("too short to compare scales" in reason.why for reason in short.automatic.reasons)


@pytest.mark.parametrize(("minutes", "folds"), [(3, 2), (120, 3)])
def test_a_short_time_is_for_few_folds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float, folds: int
) -> None:
    source = tiny_domain(tmp_path / "s", fields=3)
    clock = Clock(monkeypatch, step_s=4.0, field_s=1.0)
    decision = command.decide(
        source, AutoOptions(minutes=minutes, settings=[*SMALL, "scale=1"], workers=1), clock=clock
    )
    assert decision.recipe.folds == folds
    kept = AutoOptions(minutes=minutes, settings=[*SMALL, "scale=1"], workers=1, folds=3)
    assert command.decide(source, kept, clock=clock).recipe.folds == 3


@pytest.mark.parametrize(("settings", "rate"), [([], 4e-3), (["optimiser.learning_rate=1e-3"], 1e-3)])
def test_few_steps_learn_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], rate: float
) -> None:
    source = tiny_domain(tmp_path / "s", fields=3)
    clock = Clock(monkeypatch, step_s=4.0, field_s=1.0)
    options = AutoOptions(minutes=6, settings=[*SMALL, "scale=1", *settings], workers=1, folds=2)
    decision = command.decide(source, options, clock=clock)
    assert decision.recipe.optimiser.learning_rate == rate
    told = {reason.key: reason.why for reason in decision.automatic.reasons}
    assert ("learn faster" if not settings else "As asked for") in told["optimiser.learning_rate"]
    assert told["scale"] == "As asked for.", "one reason, and it is the user's"
    long = command.decide(source, replace(options, minutes=120), clock=clock)
    assert long.recipe.steps is not None and long.recipe.steps > rules.SHORT_STEPS
    assert long.recipe.optimiser.learning_rate == min(rate, 2e-3)


def test_fewer_folds_of_more_processes_are_timed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three groups on two processors: one process with all threads, or two folds in two processes."""
    source = tiny_domain(tmp_path / "s", fields=3)
    timed: list[int] = []

    def measured(jobs: Any, workers: int, clock: Any) -> Speed:
        timed.append(workers)
        return Speed(step_s=1.0 * workers, megapixel_s=1.0, start_s=0.0)

    monkeypatch.setattr(command, "measured_speed", measured)
    options = AutoOptions(minutes=2, settings=[*SMALL, "scale=1"], workers=2)
    decision = command.decide(source, options, clock=lambda: 0.0)
    assert timed == [1, 2] and decision.automatic.workers == 2 and decision.recipe.folds == 2
    assert decision.automatic.speed.step_s == 2.0
    assert decision.automatic.expected_minutes == pytest.approx(2 * 0.97, rel=0.1)


def test_the_minutes_of_a_warning_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_domain(tmp_path / "s", fields=2)
    speed = Speed(step_s=2.0, megapixel_s=900.0, start_s=20.0)
    monkeypatch.setattr(command, "measured_speed", lambda *_: speed)
    options = AutoOptions(minutes=1, settings=[*SMALL, "scale=1"], workers=1, folds=2)
    (told,) = (
        text for text in command.decide(source, options, clock=lambda: 0.0).automatic.warnings if "--minutes" in text
    )
    named = int(told.split("--minutes ")[1].split()[0])
    enough = command.decide(source, replace(options, minutes=named), clock=lambda: 0.0)
    assert enough.recipe.steps is not None and enough.recipe.steps >= command._FAIR_STEPS
    less = command.decide(source, replace(options, minutes=named - 1), clock=lambda: 0.0)
    assert less.recipe.steps is not None and less.recipe.steps < command._FAIR_STEPS


def test_a_setting_beside_a_rule_is_told(tmp_path: Path) -> None:
    kept = [Reason(key="tile, batch", value="6 x 160 px", why="So."), Reason(key="loss", value="1", why="Even.")]
    told = reasons_of(kept, [], ["batch=4", "loss.dice=0.3"])
    assert [reason.why for reason in told[:2]] == ["So. Then batch as asked for.", "Even. Then loss.dice as asked for."]
    assert [(reason.key, reason.value) for reason in told[2:]] == [("batch", "4"), ("loss.dice", "0.3")]
    assert "most that are trained" in length_reason(MOST_STEPS, fits=True, minutes=900)


@pytest.mark.parametrize("minutes", [float("nan"), float("inf"), 0.0, -3.0])
def test_no_time_is_refused(tmp_path: Path, minutes: float) -> None:
    source = tiny_domain(tmp_path / "s", fields=2)
    with pytest.raises(InputError, match=r"--minutes .* Remedy: at least 0\.5"):
        run_auto(source, AutoOptions(minutes=minutes), tmp_path / "run", resume=False)
    assert not (tmp_path / "run").exists()


def test_one_field_and_unlabelled_ones_train(tmp_path: Path) -> None:
    mask = np.tile(np.repeat(np.array([0, 1], np.uint8), 8), (96, 8))
    one = write_domain(tmp_path / "one", {"a": mask}, {"phases": [{"name": n, "value": v} for v, n in enumerate("ab")]})
    more = write_domain(tmp_path / "more", {"b": mask, "c": mask, "d": mask})
    told: list[str] = []
    options = AutoOptions(settings=[*SMALL, "scale=1", "steps=2"], workers=1, unlabelled=more)
    # The first file of both folders is the same: it is no further field.
    summary = run_auto(one, options, tmp_path / "run", resume=False, notice=told.append)
    assert summary.unlabelled is not None and summary.unlabelled.fields == 2
    assert len(summary.folds) == 4 and read_run(tmp_path / "run")[0].recipe["split"] == "blocks"
    assert any("one labelled field" in text for text in told) and any("unlabelled fields" in text for text in told)
    scores = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert np.array(scores["confusion"]).sum() == mask.size, "each pixel once"


def test_what_cannot_be_decided_is_said(tmp_path: Path) -> None:
    source = tiny_domain(tmp_path / "s")
    one = write_domain(tmp_path / "one", {name: np.zeros((64, 64), np.uint8) for name in "ab"}, {"phases": ["a", "b"]})
    with pytest.raises(InputError, match="the labels hold 'a' alone"):
        run_auto(one, AutoOptions(), tmp_path / "run", resume=False)
    outcome = microseg("train", "supervised", source, "--recipe", "demo", "--minutes", "5")
    assert outcome.status == 2 and "--minutes: only --recipe auto has a budget" in outcome.err
    wrong = microseg("train", "supervised", source, "--set", "stepz=3", "--out", tmp_path / "run")
    assert wrong.status == 2 and "unknown key 'stepz'" in wrong.err
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_recipe_is_not_continued(source: Path, trained: Path) -> None:
    outcome = microseg("train", "supervised", source, "--out", trained, "--resume")
    assert outcome.status == 2
    assert "holds a run of the recipe tiny. Remedy: --recipe tiny" in outcome.err
