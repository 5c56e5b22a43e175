"""Training from Python: the same runs as by the command line, and a process that stays as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

import microseg
from microseg.core.errors import InputError
from microseg.export.onnx_export import _adaptation
from microseg.train.api import Run, _overrides, train_supervised, train_uda
from tests.chain import write_recipe
from tests.core.samples import noise


def test_a_run_by_python_is_the_command_lines(source: Path, trained: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "tiny.yaml")
    told: list[tuple[int, int, int]] = []
    run = train_supervised(
        str(source),
        recipe=recipe,
        out=tmp_path / "run",
        progress=lambda fold: lambda step, steps, text: told.append((fold, step, steps)),
    )
    assert isinstance(run, Run) and run.path == tmp_path / "run"
    assert run.phases == ["ferrite", "lath-bainite"] and [fold.index for fold in run.folds] == [0, 1]
    assert run.verdict is None and 0 < run.miou < 1
    assert [fold.weights_sha256 for fold in run.folds] == [
        fold.weights_sha256 for fold in microseg.train_supervised(source, recipe=recipe, out=trained, resume=True).folds
    ]
    assert told[0] == (0, 1, 6) and told[-1] == (1, 6, 6)


def test_settings_are_keys_of_the_recipe() -> None:
    settings = {
        "optimiser.learning_rate": 1e-5,
        "augmentation": {"kind": "none"},
        "epochs": None,
        "encoder.weights": Path("a, b"),
    }
    parsed = {key: yaml.safe_load(text) for key, _, text in (item.partition("=") for item in _overrides(settings))}
    assert parsed == {
        "optimiser.learning_rate": 1e-5, "augmentation": {"kind": "none"}, "epochs": None, "encoder.weights": "a, b"
    }  # fmt: skip
    assert _overrides(["steps=3"]) == ["steps=3"] and _overrides(None) == []


def _check_what_an_engine_says_of_it(run: Run) -> None:
    """The fields that its networks were adapted to, where they were."""
    assert run.summary.adaptation is not None and run.record.adaptation is not None
    for taken in run.summary.adaptation.candidates:
        decision = run.summary.adaptation.model_copy(update={"chosen": taken.name})
        told = _adaptation(run.record, run.summary.model_copy(update={"adaptation": decision}))
        if taken.name == "unadapted":
            assert told is None
            continue
        assert told is not None and told.domain == "lom" and told.fields == run.record.adaptation.fields
        assert taken.estimates is not None and told.disagreement == taken.estimates.disagreement


def test_an_adaptation_by_python_has_a_verdict(trained: Path, tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "lom").mkdir()
    for index in range(2):
        Image.fromarray(noise(96, 96, seed=index)).save(tmp_path / "lom" / f"{index}.png")
    notices: list[str] = []
    run = train_uda(
        tmp_path / "lom", run=trained, method="normalise", out=tmp_path / "run", folds=1, control=False,
        invert=False, pixel_size_um=0.0277, settings={"method.statistics": 0.5}, notice=notices.append,
    )  # fmt: skip
    assert run.verdict in ("adapt", "do not adapt", "label a few fields")
    assert run.record.adaptation is not None and run.record.adaptation.recipe["method"]["statistics"] == 0.5
    _check_what_an_engine_says_of_it(run)
    again = train_uda(
        tmp_path / "lom", run=trained, method="normalise", out=tmp_path / "run", resume=True, notice=notices.append
    )
    assert again.summary == run.summary and "already finished" in notices[-1]
    with pytest.raises(InputError, match=r"--method magic: no such method\. Remedy: one of auto"):
        train_uda(tmp_path / "lom", run=trained, method="magic")


def test_the_random_state_of_torch_stays(source: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    train_supervised(source, recipe=write_recipe(tmp_path / "tiny.yaml", steps=1), out=tmp_path / "run", folds=2)
    assert torch.equal(torch.get_rng_state(), before)
