"""Training on several GPUs: folds side by side, each on a GPU of its own; folds that are left over on all GPUs together."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import wait as wait_for
from multiprocessing.managers import SyncManager
from pathlib import Path
from threading import Thread, current_thread, main_thread
from typing import Any, Protocol

from microseg.core.errors import MicrosegError, TrainingError
from microseg.core.system.allocator import keep_freed_memory
from microseg.core.system.processor_count import usable_processors
from microseg.train.common.parallel.ranks import ALONE, Ranks, join_ranks
from microseg.train.common.parallel.stopping import StopRequest
from microseg.train.common.progress import FoldCallback, ProgressCallback, no_progress

_POLL_S = 0.2
_KEPT = "Everything that the folds saved is kept. Remedy: the same command with --resume, or fewer --workers."


class FoldJob(Protocol):
    """The training of one fold, which can be sent to another process."""

    @property
    def fold(self) -> int:
        """Number of the fold."""

    @property
    def folder(self) -> Path:
        """Folder of the fold. The file fold.json in it marks the fold as finished."""

    def run(self, progress: ProgressCallback, ranks: Ranks = ALONE) -> None:
        """Train this fold."""

    def ranks_at_most(self, workers: int) -> int:
        """The most processes, up to `workers`, that can share this fold."""


def default_workers() -> int:
    """One process for each GPU; one in all without a GPU."""
    import torch

    return max(1, torch.cuda.device_count())


def train_folds(
    jobs: Sequence[FoldJob], workers: int, on_fold: FoldCallback, folds: Sequence[int] | None = None
) -> None:
    """Train folds with several processes, each on a GPU of its own. One worker trains in this process.

    As many folds as there are workers train side by side. Folds that are left over train one after the other, each with
    all workers.

    Args:
        jobs: The folds to train.
        workers: Processes that train.
        on_fold: Gives the progress callback of a fold.
        folds: All folds of the run, finished ones too. They decide which folds train side by side, and so with how many
            threads: this must not depend on what an interruption left.

    Raises:
        TrainingError: A process ends before its fold is finished, or a fold raises it.
        KeyboardInterrupt: This process was asked to stop. The folds save their state and stop as well.
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


def _start_method(jobs: Sequence[FoldJob]) -> str:
    """How processes start: on Linux as copies of one that has imported torch and the training loop."""
    if sys.platform != "linux":
        return "spawn"
    multiprocessing.set_forkserver_preload([__name__, *sorted({type(job).__module__ for job in jobs})])
    # Clusters send SIGTERM to the whole group. Only the processes that train react: they save and end.
    with _sigterm_ignored():
        forkserver.ensure_running()
    return "forkserver"


@contextmanager
def _sigterm_ignored() -> Iterator[None]:
    """Processes that start inside the block ignore SIGTERM."""
    if current_thread() is not main_thread():  # only the main thread may set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _side_by_side(jobs: Sequence[FoldJob], workers: int, on_fold: FoldCallback) -> None:
    context = multiprocessing.get_context(_start_method(jobs))
    callbacks = {job.fold: on_fold(job.fold) for job in jobs}
    with _reports(context) as (manager, reports), StopRequest() as stop:
        devices = manager.Queue()
        for index in range(workers):
            devices.put(index)
        pool = ProcessPoolExecutor(workers, context, _start, (devices, reports, workers))
        try:
            pending = {pool.submit(_run, job) for job in jobs}
            while pending:
                done, pending = wait(pending, timeout=_POLL_S)
                _pass_on(reports, callbacks)
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
                    f"{jobs[0].folder.parent}: a process that trained a fold has ended: it was killed, or memory ran out. "
                    f"{_KEPT}"
                ) from error
            raise


def _together(job: FoldJob, size: int, progress: ProgressCallback) -> None:
    """Train one fold with `size` processes."""
    from torch.multiprocessing.spawn import ProcessExitedException, start_processes

    method = _start_method([job])
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
                _pass_on(reports, {job.fold: progress})
                if stop.made:
                    raise KeyboardInterrupt
            _pass_on(reports, {job.fold: progress})
        except ProcessExitedException as error:
            _pass_on(reports, {job.fold: progress})
            raise TrainingError(
                f"{job.folder}: process {error.error_index} of the {size} that trained it has ended: it was killed, or "
                f"memory ran out. {_KEPT}"
            ) from error
        finally:
            for process in ranks.processes:
                process.terminate()
                process.join()
    if not (job.folder / "fold.json").is_file():
        raise KeyboardInterrupt  # Ctrl-C or the cluster stopped the ranks


def _train_rank(rank: int, job: FoldJob, size: int, meeting: str, reports: Any) -> None:
    """In a new process: train with the others. An error goes to the parent process, with its message."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the process that it was copied from ignores it
    _end_with_parent()
    _take_processors(size)
    ranks = join_ranks(meeting, rank, size)
    try:
        job.run(_sender(reports, job.fold) if ranks.writes else no_progress, ranks)
    except MicrosegError as error:
        reports.put(error)
        raise SystemExit(1) from error


@contextmanager
def _reports(context: Any) -> Iterator[tuple[Any, Any]]:
    """A manager and its queue of (fold, step, steps, text), or of errors to raise."""
    manager = SyncManager(ctx=context)
    manager.start(_serve)
    with manager:
        yield manager, manager.Queue()


def _serve() -> None:
    """In the manager's process: it ends after the folds that report to it, not by a signal."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_with_parent()


def _end_with_parent() -> None:
    """In a new process: end with the parent, so that no process writes beside the run that takes over."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    Thread(target=follow, daemon=True).start()


def _pass_on(reports: Any, callbacks: dict[int, ProgressCallback]) -> None:
    """Hand what has come in to the callbacks. Raises the first error among it."""
    while True:
        try:
            message = reports.get_nowait()
        except queue.Empty:
            return
        if isinstance(message, Exception):
            raise message
        fold, *told = message
        callbacks[fold](*told)


_queue: Any = None


def _start(devices: Any, reports: Any, workers: int) -> None:
    """In a new process: take a GPU and a share of the processors."""
    global _queue
    import torch

    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the process that it was copied from ignores it
    _end_with_parent()
    _queue = reports
    _take_processors(workers)
    if torch.cuda.is_available():
        torch.cuda.set_device(devices.get() % torch.cuda.device_count())


def _run(job: FoldJob) -> None:
    job.run(_sender(_queue, job.fold))


def _sender(reports: Any, fold: int) -> ProgressCallback:
    return lambda step, steps, text: reports.put((fold, step, steps, text))


def _take_processors(processes: int) -> None:
    import torch

    keep_freed_memory()
    torch.set_num_threads(max(1, usable_processors() // processes))
