"""`microseg train supervised` as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from microseg.core.schemas.run import read_run
from microseg.train.supervised import loop
from tests.chain import microseg, tiny_domain, write_recipe
from tests.core.samples import halves, write_domain


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    return write_recipe(tmp_path / "tiny.yaml")


def test_trains_and_says_what_comes_next(source: Path, recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "a run"
    options = ["--set", "steps=2", "--set", "optimiser.learning_rate=1e-3", "--seed", "7", "--folds", "2"]
    outcome = microseg("train", "supervised", source, "--recipe", recipe, "--out", out, *options)
    assert outcome.status == 0, outcome.err
    assert "IoU on held-out fields" in outcome.out
    assert "lath-bainite" in outcome.out and "mean ± std" in outcome.out
    assert f"microseg export {out}" in outcome.out
    assert "Pixel size of the fields: 0.0277 um (domain.yaml)" in outcome.out
    record, _ = read_run(out)
    assert (record.recipe["steps"], record.recipe["optimiser"]["learning_rate"], record.seed) == (2, 1e-3, 7)
    assert record.recipe_name == "tiny"


def test_a_label_curve_says_how_far_more_labels_help(tmp_path: Path) -> None:
    source = tiny_domain(tmp_path / "s", fields=6)
    tile = {"core_px": 96, "halo_px": 8}
    recipe = write_recipe(tmp_path / "tiny.yaml", steps=None, epochs=1, folds=2, tile=tile, validate_every=6)
    out = tmp_path / "run"
    outcome = microseg("train", "supervised", source, "--recipe", recipe, "--out", out, "--label-curve")
    assert outcome.status == 0, outcome.err
    assert "The last doubling of the labels gained" in outcome.out
    curve = json.loads((out / "labels.json").read_text())
    assert [(point["share"], point["fields"]) for point in curve["points"]] == [(0.25, 1), (0.5, 2), (1.0, 3)]
    full = read_run(out)[1]
    assert curve["points"][2]["mious"] == [fold.miou for fold in full.folds]
    gains = [all_ - half for half, all_ in zip(curve["points"][1]["mious"], curve["points"][2]["mious"], strict=True)]
    assert curve["gain"] == pytest.approx(sum(gains) / 2)
    steps = {len((out / name / "fold0" / "history.csv").read_text().splitlines()) for name in (".", "labels-25")}
    assert len(steps) == 1, "as many steps with fewer labels"
    assert (out / "labels.png").stat().st_size > 5000


def test_resume_of_a_finished_run_says_so(
    source: Path, trained: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    monkeypatch.setattr(loop, "train_fold", lambda *arguments: pytest.fail("trained again"))
    arguments = ["train", "supervised", source, "--recipe", recipe, "--out", run]
    without = microseg(*arguments)
    assert without.status == 2
    assert "--resume" in without.err
    outcome = microseg(*arguments, "--resume")
    assert outcome.status == 0, outcome.err
    assert "already finished; nothing is trained" in outcome.out
    assert read_run(run) == read_run(trained)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "stepz=1"], "unknown key 'stepz'; allowed here: augmentation, batch"),
        (["--set", "steps"], "not of the form KEY=VALUE"),
        (["--folds", "5"], "4 groups of fields"),
        (["--recipe", "nickel"], "no such recipe. Remedy: one of"),
        (["--set", "encoder.name=no_such_net"], "encoder.name 'no_such_net'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_said_in_one_message(
    source: Path, recipe: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    chosen = [] if "--recipe" in options else ["--recipe", recipe]
    outcome = microseg("train", "supervised", source, *chosen, "--out", tmp_path / "run", *options)
    assert outcome.status == 2
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_a_phase_that_never_occurs_is_named(recipe: Path, tmp_path: Path) -> None:
    phases = {"phases": [{"name": "matrix"}, {"name": "oxide"}, {"name": "crack", "value": 4}]}
    domain = write_domain(tmp_path / "domain", {"a": halves(64, 64), "b": halves(64, 64)}, phases)
    outcome = microseg("train", "supervised", domain, "--recipe", recipe, "--out", tmp_path / "run")
    assert outcome.status == 2
    assert "phase 'crack' (mask value 4) occurs in no mask" in outcome.err
    assert not (tmp_path / "run").exists()
