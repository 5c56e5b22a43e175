"""Folds in processes of their own give what one process gives, and a process that dies loses nothing."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
from safetensors.torch import load_file

from microseg.core.errors import TrainingError
from microseg.core.runs import read_run
from microseg.train.supervised import Report
from tests.chain import train


def test_two_processes_train_what_one_trains_also_after_a_kill(trained: Path, source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    seen: dict[int, list[int]] = {0: [], 1: []}

    def killed(fold: int) -> Report:
        def report(step: int, steps: int, text: str) -> None:
            if step >= 2:
                for child in multiprocessing.active_children():
                    if "Manager" not in child.name:
                        child.kill()

        return report

    def followed(fold: int) -> Report:
        return lambda step, steps, text: seen[fold].append(step)

    with pytest.raises(TrainingError, match=r"ended without a word.*--resume"):
        train(source, run, workers=2, on_fold=killed)
    assert not (run / "summary.json").exists()
    summary = train(source, run, resume=True, workers=2, on_fold=followed)
    assert summary is not None
    assert all(steps and steps[-1] == 6 for steps in seen.values()), "progress of both folds arrives"
    expected = read_run(trained)[1]
    for ours, theirs in zip(summary.folds, expected.folds, strict=True):
        assert ours.miou == pytest.approx(theirs.miou, abs=0.02)
        for name, value in load_file(run / f"fold{ours.index}" / "model.safetensors").items():
            reference = load_file(trained / f"fold{ours.index}" / "model.safetensors")[name].float()
            assert (value.float() - reference).abs().max() <= 1e-2 + 1e-2 * reference.abs().max(), name
