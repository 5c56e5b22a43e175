"""Folds in processes of their own give what one process gives, and a process that dies loses nothing."""

from __future__ import annotations

import csv
import multiprocessing
from pathlib import Path

import pytest

from microseg.core.errors import TrainingError
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
    for fold in (0, 1):
        ours, theirs = (_history(folder / f"fold{fold}") for folder in (run, trained))
        assert [row["step"] for row in ours] == [row["step"] for row in theirs]
        for row, reference in zip(ours, theirs, strict=True):
            assert float(row["loss"]) == pytest.approx(float(reference["loss"]), rel=0.02)
            assert float(row["miou"]) == pytest.approx(float(reference["miou"]), abs=0.03)


def _history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").read_text(encoding="utf-8").splitlines()))
