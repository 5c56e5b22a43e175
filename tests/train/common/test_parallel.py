"""Folds in processes of their own give what one process gives, and a process that dies loses nothing."""

from __future__ import annotations

import csv
import fcntl
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microseg.core.errors import TrainingError
from microseg.train.common.parallel import folds as parallel
from microseg.train.common.parallel.folds import _end_with_parent
from microseg.train.common.progress import ProgressCallback
from tests.chain import train
from tests.processes import start_method


def test_two_processes_train_what_one_trains_also_after_a_kill(trained: Path, source: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    seen: dict[int, list[int]] = {0: [], 1: []}

    def killed(fold: int) -> ProgressCallback:
        def report(step: int, steps: int, text: str) -> None:
            if step >= 2:
                for child in multiprocessing.active_children():
                    if "Manager" not in child.name:
                        child.kill()

        return report

    def followed(fold: int) -> ProgressCallback:
        return lambda step, steps, text: seen[fold].append(step)

    with pytest.raises(TrainingError, match=r"has ended.*--resume"):
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


def test_threads_do_not_depend_on_what_an_interruption_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five folds and two workers the last trains alone, with all threads, whichever are finished."""
    beside: list[int] = []
    alone: list[int] = []

    def job(fold: int) -> Any:
        return SimpleNamespace(fold=fold, ranks_at_most=lambda workers: 1, run=lambda report: alone.append(fold))

    monkeypatch.setattr(parallel, "_side_by_side", lambda jobs, *others: beside.extend(job.fold for job in jobs))
    parallel.train_folds([job(fold) for fold in (1, 4)], 2, lambda fold: lambda step, steps, text: None, range(5))
    assert (beside, alone) == ([1], [4])


def test_workers_of_a_parent_that_was_killed_end_as_well(tmp_path: Path) -> None:
    context: Any = multiprocessing.get_context(start_method())
    parent = context.Process(target=_starts_a_worker, args=(tmp_path,))
    parent.start()
    _wait_for(lambda: (tmp_path / "ready").exists())
    assert not _is_free(tmp_path / "lock")
    parent.kill()
    parent.join()
    _wait_for(lambda: _is_free(tmp_path / "lock"))


def test_folds_save_when_their_whole_group_is_told_to_end(tmp_path: Path) -> None:
    """As clusters do it: SIGTERM to every process of a job, also to those that only start others or pass on reports."""
    script = Path(__file__).with_name("saving_folds.py")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, script, tmp_path], env=environment, start_new_session=True)
    _wait_for(lambda: all((tmp_path / f"told{fold}").exists() for fold in (0, 1)))
    os.killpg(parent.pid, signal.SIGTERM)
    assert parent.wait(50) == 130
    assert all((tmp_path / f"saved{fold}").exists() for fold in (0, 1))


def _starts_a_worker(place: Path) -> None:
    worker = multiprocessing.get_context("fork").Process(target=_works, args=(place,))
    worker.start()
    worker.join()


def _works(place: Path) -> None:
    _end_with_parent()
    with (place / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (place / "ready").touch()
        time.sleep(60)


def _is_free(path: Path) -> bool:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 50
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.1)


def _history(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "history.csv").read_text(encoding="utf-8").splitlines()))
