"""Folds side by side: they share nothing, so one process for each is the best use of several GPUs."""

from __future__ import annotations

import multiprocessing
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from microseg.core.errors import TrainingError
from microseg.core.manifest import PhaseInfo
from microseg.train.datasets import LabelledField
from microseg.train.recipe import Recipe
from microseg.train.supervised import Report, train_fold

_POLL_S = 0.2


@dataclass(frozen=True)
class FoldJob:
    """What `train_fold` takes, but for the report."""

    recipe: Recipe
    phases: Sequence[PhaseInfo]
    fields: Sequence[LabelledField]
    held_out: Sequence[LabelledField]
    fold: int
    folder: Path

    def run(self, report: Report) -> None:
        """Train this fold."""
        train_fold(self.recipe, self.phases, self.fields, self.held_out, self.fold, self.folder, report)


def default_workers() -> int:
    """One process per GPU, one in all without."""
    import torch

    return max(1, torch.cuda.device_count())


def train_folds(jobs: Sequence[FoldJob], workers: int, on_fold: Callable[[int], Report]) -> None:
    """Train every job, `workers` at a time, each in a process with a GPU of its own; one worker trains in this process.

    Raises what a fold raises, TrainingError where a process dies; the others stop with it, and --resume goes on.
    """
    if min(workers, len(jobs)) <= 1:
        for job in jobs:
            job.run(on_fold(job.fold))
        return
    context = multiprocessing.get_context("spawn")
    workers = min(workers, len(jobs))
    with context.Manager() as manager:
        devices, reports = manager.Queue(), manager.Queue()
        for index in range(workers):
            devices.put(index)
        threads = max(1, (os.cpu_count() or 1) // workers)
        pool = ProcessPoolExecutor(workers, context, _start, (devices, reports, threads))
        try:
            futures = [pool.submit(_run, job) for job in jobs]
            _follow(futures, reports, {job.fold: on_fold(job.fold) for job in jobs})
            pool.shutdown()
        except BaseException as error:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise TrainingError(
                    "a process that trained a fold ended without a word: killed, or out of memory. What every fold had "
                    "saved is kept. Remedy: the same command with --resume, or fewer --workers."
                ) from error
            raise


def _follow(futures: Sequence[Future[None]], reports: Any, report_of: dict[int, Report]) -> None:
    """Pass progress on until all is done or the first one fails."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_POLL_S)
        while True:
            try:
                fold, step, steps, text = reports.get_nowait()
            except queue.Empty:
                break
            report_of[fold](step, steps, text)
        for future in done:
            future.result()


_reports: Any = None


def _start(devices: Any, reports: Any, threads: int) -> None:
    """In a new process: take a GPU, and a share of the processors."""
    global _reports
    import torch

    _reports = reports
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        torch.cuda.set_device(devices.get() % torch.cuda.device_count())


def _run(job: FoldJob) -> None:
    job.run(lambda step, steps, text: _reports.put((job.fold, step, steps, text)))
