"""What each method of adaptation trains, and on what."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from torch import nn

from microseg.core.schemas.run import read_record
from microseg.train.common.weight_average import WeightAverage
from microseg.train.recipe_files import load_uda_recipe
from microseg.train.uda.command import AdaptationOptions, run_uda
from tests.train.uda.runs import ONCE, adapted, adapted_once


@pytest.mark.parametrize(
    "method", ["source", "statistics", "adaptsegnet", "advent", "minent", "fda", "dacs", "mic", "intrada", "dast"]
)
def test_every_method_trains_and_leaves_a_run(method: str, place: Path) -> None:
    run, summary = adapted_once(place, method)
    found = summary.adaptation
    assert found is not None
    assert found.candidates[0].name == "unadapted"
    assert found.otsu is not None and sum(found.otsu.values()) == pytest.approx(1)
    rows = (run / "methods" / found.candidates[1].name / "fold0" / "history.csv").read_text().splitlines()
    assert len(rows) == 1 + 2  # the heading, steps 0 and 2
    weights = load_file(run / "fold0" / "model.safetensors")
    assert all(np.isfinite(value).all() for value in weights.values())
    record = read_record(run)
    assert record.adaptation is not None
    assert [entry.role for entry in record.domains] == ["source", "target"]


@pytest.mark.parametrize(("method", "steps"), [("dacs", 4), ("intrada", 8)])
def test_a_run_that_was_cut_off_ends_as_one_that_was_not(
    method: str, steps: int, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of IntraDA's two rounds, in the second one."""
    settings = [f"steps={steps}", "batch=1", "snapshot_every=2"]
    adapted(place, tmp_path / "whole", method, settings)
    update = WeightAverage.update

    def dies_in_the_last_step(average: WeightAverage, network: nn.Module, step: int) -> None:
        if step == steps - 1:
            raise OSError("power cut")
        update(average, network, step)

    monkeypatch.setattr(WeightAverage, "update", dies_in_the_last_step)
    with pytest.raises(OSError, match="power cut"):
        adapted(place, tmp_path / "cut", method, settings)
    monkeypatch.undo()
    adapted(place, tmp_path / "cut", method, settings, resume=True)
    ends = [
        folder / "methods" / method / "fold0" / "last" / f"step-{steps:07d}.safetensors"
        for folder in (tmp_path / "whole", tmp_path / "cut")
    ]
    whole, cut = (load_file(path) for path in ends)
    assert all(np.array_equal(whole[key], cut[key]) for key in whole)


def test_without_weight_on_the_target_only_its_statistics_come_through(place: Path, tmp_path: Path) -> None:
    same = [
        *ONCE,
        "statistics=none",
        "optimiser.learning_rate=1e-3",
        "optimiser.weight_decay=1e-4",
        "optimiser.encoder_factor=0.3",
    ]
    adapted(place, tmp_path / "control", "dacs", [*same, "statistics_only=true"])
    adapted(place, tmp_path / "source", "source", same)
    ends = [
        load_file(tmp_path / name / "methods" / kind / "fold0" / "last" / "step-0000002.safetensors")
        for name, kind in (("control", "dacs"), ("source", "source"))
    ]
    assert all(np.allclose(ends[0][key], ends[1][key], atol=1e-6) for key in ends[1])


def test_in_the_robust_phase_the_target_is_not_learned_from(place: Path, tmp_path: Path) -> None:
    adapted(place, tmp_path / "robust", "dacs", [*ONCE, "robust_share=1"])
    robust, control = (
        load_file(run / "methods" / kind / "fold0" / "last" / "step-0000002.safetensors")
        for run, kind in ((tmp_path / "robust", "dacs"), (adapted_once(place, "statistics")[0], "statistics"))
    )
    assert all(np.allclose(robust[key], control[key], atol=1e-6) for key in control)


def test_whose_tiles_move_the_statistics_is_as_asked(place: Path, tmp_path: Path) -> None:
    """The source's alone: as if there were no target. Affine parameters stay where they are told to."""
    start = load_file(place / "runs" / "s-tiny" / "fold0" / "model.safetensors")
    moved = [key for key in start if key.endswith("running_mean")]
    same = [*ONCE, "frozen_affine=true", "augmentation={kind: extended}"]
    same += ["optimiser={learning_rate: 1.0e-3, encoder_factor: 0.3, weight_decay: 1.0e-4}"]
    ends = {}
    for name, whose in (("source", "both"), ("statistics", "source"), ("statistics", "target")):
        adapted(place, tmp_path / name / whose, name, [*same, f"statistics={whose}"])
        last = tmp_path / name / whose / "methods" / name / "fold0" / "last" / "step-0000002.safetensors"
        end = {key.removeprefix("network.network."): value for key, value in load_file(last).items()}
        for key in (key.replace("running_mean", kind) for key in moved for kind in ("weight", "bias")):
            assert np.array_equal(end[key], start[key])
        ends[name, whose] = np.concatenate([end[key] for key in moved])
    untouched, source, target = ends.values()
    assert np.allclose(source, untouched, atol=1e-6)
    assert not np.allclose(target, source, atol=1e-3)


def test_a_target_smaller_than_a_tile(place: Path, tmp_path: Path) -> None:
    """lom/ has fields of 40 px, a tile 64."""
    settings = [*ONCE, "balanced_patches=true", "style_share=0.5"]
    name, recipe = load_uda_recipe("uda-dacs", settings)
    source = place / "runs" / "s-tiny"
    summary = run_uda(
        place / "lom",
        source,
        name,
        recipe,
        tmp_path / "run",
        AdaptationOptions(folds=1, control=False, invert=True, pixel_size_um=0.0277),
    )
    assert summary.adaptation is not None and [c.name for c in summary.adaptation.candidates][-1] == "dacs"
