"""Training on several GPUs: folds side by side, for they share nothing; what remains of them on all GPUs together."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for
from multiprocessing.managers import SyncManager
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any, Protocol

from microseg.core.errors import MicrosegError, TrainingError
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.system.processor_count import usable_processors
from microseg.train.common.datasets import LabelledField
from microseg.train.common.ranks import ALONE, Ranks, join_ranks
from microseg.train.common.recipe import Recipe
from microseg.train.common.stopping import StopRequest
from microseg.train.supervised.loop import Report, train_fold

_POLL_S = 0.2
_KEPT = "What every fold had saved is kept. Remedy: the same command with --resume, or fewer --workers."


class Job(Protocol):
    """One fold's training."""

    @property
    def fold(self) -> int:
        """Which fold."""

    @property
    def folder(self) -> Path:
        """Where it writes; fold.json there ends it."""

    def run(self, report: Report, ranks: Ranks = ALONE) -> None:
        """Train this fold."""

    def ranks_at_most(self, workers: int) -> int:
        """How many processes can share it."""


@dataclass(frozen=True)
class FoldJob:
    """What `train_fold` takes, but for the report and the ranks."""

    recipe: Recipe
    phases: Sequence[PhaseInfo]
    fields: Sequence[LabelledField]
    held_out: Sequence[LabelledField]
    fold: int
    folder: Path
    start: Path | None = None

    def run(self, report: Report, ranks: Ranks = ALONE) -> None:
        """Train this fold."""
        train_fold(
            self.recipe, self.phases, self.fields, self.held_out, self.fold, self.folder, report, ranks, self.start
        )

    def ranks_at_most(self, workers: int) -> int:
        """Ranks that hold equal shares of every batch."""
        return max(n for n in range(1, workers + 1) if self.recipe.batch % n == 0)


def default_workers() -> int:
    """One process per GPU, one in all without."""
    import torch

    return max(1, torch.cuda.device_count())


def train_folds(
    jobs: Sequence[Job], workers: int, on_fold: Callable[[int], Report], folds: Sequence[int] | None = None
) -> None:
    """Train every job with `workers` processes, each with a GPU of its own; one worker trains in this process.

    As many folds as there are workers train side by side; folds that are fewer than the workers are trained one after
    the other, each by all workers. folds: of the whole run, finished ones too; which of them train side by side, and so
    with how many threads, must not depend on what an interruption left. Raises what a fold raises, TrainingError where a
    process dies, KeyboardInterrupt when told to stop; the others stop with it, and --resume goes on.
    """
    order = [job.fold for job in jobs] if folds is None else list(folds)
    shared = set(order[: len(order) // workers * workers] if workers > 1 else ())
    if beside := [job for job in jobs if job.fold in shared]:
        _side_by_side(beside, workers, on_fold)
    for job in jobs:
        if job.fold in shared:
            continue
        size = job.ranks_at_most(workers)
        if size == 1:
            job.run(on_fold(job.fold))
        else:
            _together(job, size, on_fold(job.fold))


def _method() -> str:
    """How processes start: from one that has read torch once, where the system has that, else each by itself."""
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload([__name__])
    # SIGTERM to the whole group, as clusters send it, must leave it to the folds to save and to end.
    with _deaf_to_sigterm():
        forkserver.ensure_running()
    return "forkserver"


@contextmanager
def _deaf_to_sigterm() -> Iterator[None]:
    """What starts meanwhile ignores SIGTERM."""
    if current_thread() is not main_thread():  # which alone may say so
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _side_by_side(jobs: Sequence[Job], workers: int, on_fold: Callable[[int], Report]) -> None:
    context = multiprocessing.get_context(_method())
    reports_of = {job.fold: on_fold(job.fold) for job in jobs}
    with _reports(context) as (manager, reports), StopRequest() as stop:
        devices = manager.Queue()
        for index in range(workers):
            devices.put(index)
        pool = ProcessPoolExecutor(workers, context, _start, (devices, reports, workers))
        try:
            pending = {pool.submit(_run, job) for job in jobs}
            while pending:
                done, pending = wait(pending, timeout=_POLL_S)
                _pass_on(reports, reports_of)
                for future in done:
                    future.result()
                if stop.made:
                    raise KeyboardInterrupt
            pool.shutdown()
        except BaseException as error:
            for process in list((pool._processes or {}).values()):
                process.terminate()
            pool.shutdown(cancel_futures=True)
            if isinstance(error, BrokenProcessPool):
                raise TrainingError(
                    f"a process that trained a fold ended without a word: killed, or out of memory. {_KEPT}"
                ) from error
            raise


def _together(job: Job, size: int, report: Report) -> None:
    """One fold on `size` processes."""
    from torch.multiprocessing.spawn import ProcessExitedException, start_processes

    method = _method()
    with (
        _reports(multiprocessing.get_context(method)) as (_, reports),
        StopRequest() as stop,
        tempfile.TemporaryDirectory() as place,
    ):
        meeting = (Path(place) / "ranks").as_uri()
        ranks = start_processes(  # type: ignore[no-untyped-call]
            _train_rank, (job, size, meeting, reports), size, join=False, start_method=method
        )
        try:
            while not ranks.join(timeout=_POLL_S):
                _pass_on(reports, {job.fold: report})
                if stop.made:
                    raise KeyboardInterrupt
            _pass_on(reports, {job.fold: report})
        except ProcessExitedException as error:
            _pass_on(reports, {job.fold: report})
            raise TrainingError(
                f"{job.folder}: process {error.error_index} of the {size} that trained it ended without a word: killed, "
                f"or out of memory. {_KEPT}"
            ) from error
        finally:
            for process in ranks.processes:
                process.terminate()
                process.join()
    if not (job.folder / "fold.json").is_file():
        raise KeyboardInterrupt  # the ranks were told, by Ctrl-C or the cluster


def _train_rank(rank: int, job: Job, size: int, meeting: str, reports: Any) -> None:
    """A process of its own: train with the others; a failure travels as itself, for its message."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ignored where it was forked
    _end_with_parent()
    _take_processors(size)
    ranks = join_ranks(meeting, rank, size)
    try:
        job.run(_sender(reports, job.fold) if ranks.writes else lambda step, steps, text: None, ranks)
    except MicrosegError as error:
        reports.put(error)
        raise SystemExit(1) from error


@contextmanager
def _reports(context: Any) -> Iterator[tuple[Any, Any]]:
    """A manager and a queue of (fold, step, steps, text), or of errors to raise."""
    manager = SyncManager(ctx=context)
    manager.start(_serve)
    with manager:
        yield manager, manager.Queue()


def _serve() -> None:
    """In the manager's process: it ends after the folds that report to it."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_with_parent()


def _end_with_parent() -> None:
    """In a new process: a parent that was killed must not leave it writing beside the run that takes over."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def _pass_on(reports: Any, report_of: dict[int, Report]) -> None:
    """What has come in. Raises the first error among it."""
    while True:
        try:
            message = reports.get_nowait()
        except queue.Empty:
            return
        if isinstance(message, Exception):
            raise message
        fold, *told = message
        report_of[fold](*told)


_queue: Any = None


def _start(devices: Any, reports: Any, workers: int) -> None:
    """In a new process: take a GPU, and a share of the processors."""
    global _queue
    import torch

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # ignored where it was forked
    _end_with_parent()
    _queue = reports
    _take_processors(workers)
    if torch.cuda.is_available():
        torch.cuda.set_device(devices.get() % torch.cuda.device_count())


def _run(job: Job) -> None:
    job.run(_sender(_queue, job.fold))


def _sender(reports: Any, fold: int) -> Report:
    return lambda step, steps, text: reports.put((fold, step, steps, text))


def _take_processors(processes: int) -> None:
    import torch

    torch.set_num_threads(max(1, usable_processors() // processes))
