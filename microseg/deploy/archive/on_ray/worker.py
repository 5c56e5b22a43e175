"""What an actor does: it opens the engine once and measures blocks of rows. All else is as in a shard."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from microseg import __version__
from microseg.core.errors import InputError, MicrosegError
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.archive_file import Archive, read_archive
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.job import ArchiveJob, ArchiveWorker
from microseg.deploy.archive.lists.field_list import FieldListInfo, ListedField
from microseg.runtime import Engine, EngineFile, RuntimeConfig, open_configured

if TYPE_CHECKING:
    import pyarrow

RESULT = "result"
# A block is tried so often as a whole, and then so often each of its fields.
_ATTEMPTS = 3
_LOOKS, _LOOK_S = 5, 1.0


@dataclass(frozen=True)
class RayJob:
    """What the driver tells each actor.

    Attributes:
        job: how fields are measured, and where results go.
        info: what the list says of all fields.
        shard: the shard, for the names of the files of results.
        config: how the engine is run.
        folder: the folder that relative paths are relative to.
        version: version of microseg that the driver runs.
        fetch_engine: returns the content of the engine's files by name, for nodes that do not see them.
        attempt: takes the row of a field that is begun, and returns how often that happened.
    """

    job: ArchiveJob
    info: FieldListInfo
    shard: str
    config: RuntimeConfig
    folder: str
    version: str
    fetch_engine: Callable[[], dict[str, bytes]]
    attempt: Callable[[int], int]


@dataclass(frozen=True)
class BlockResult:
    """What an actor did with a block.

    Attributes:
        fields: fields of the block.
        measured: how many were measured.
        resumed: how many had a result.
        failed: names and reasons of the others.
        engine_calls: calls of the engine.
        provider: what the engine computes with; None where nothing was computed.
        error: why nothing can be measured; None where it can.
    """

    fields: int
    measured: int = 0
    resumed: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)
    engine_calls: int = 0
    provider: str | None = None
    error: str | None = None


def _given_up(field: ListedField, count: int) -> ListedField:
    """A field that fails, since processes died when they measured it and nothing else."""
    return replace(
        field,
        problem=f"{field.shown}: {count} processes died while they measured it. Remedy: look at the file, and measure it "
        "alone: microseg segment FILE.",
    )


class Attempts:
    """Counts how often fields are begun. Whatever counts in an actor that measures dies with it."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def begin(self, row: int) -> int:
        """How often a row is begun, this time included."""
        self._counts[row] += 1
        return self._counts[row]


class RayWorker:
    """An actor of Ray Data."""

    def __init__(self, job: RayJob) -> None:
        """Args:
        job: what the driver tells.
        """
        self._job = job
        self._worker: ArchiveWorker | None = None

    def __call__(self, table: pyarrow.Table) -> pyarrow.Table:
        """Measure the fields of a block.

        Args:
            table: rows of `FieldList.tables`.

        Returns:
            A table of one row: the column `result` has a `BlockResult` as JSON.
        """
        pa, _ = arrow()
        try:
            result = self._measured(table)
        except MicrosegError as error:
            result = BlockResult(table.num_rows, error=str(error))
        return pa.table({RESULT: [json.dumps(asdict(result))]})

    def _measured(self, table: pyarrow.Table) -> BlockResult:
        if self._worker is None:
            self._worker = self._begun()
        worker = self._worker
        measured, resumed, failed, calls = worker.measured, worker.resumed, len(worker.failures), worker.engine_calls
        fields = list(self._job.info.fields_of(table))
        if self._job.attempt(-1 - fields[0].row) <= _ATTEMPTS:
            worker.measure(fields, lambda amount: None)
        else:
            # One of them may be what the actors die of: one after another, until it is known.
            for each in fields:
                count = self._job.attempt(each.row)
                worker.measure([each if count <= _ATTEMPTS else _given_up(each, count - 1)], lambda amount: None)
        return BlockResult(
            table.num_rows,
            worker.measured - measured,
            worker.resumed - resumed,
            [(failure.name, failure.reason) for failure in worker.failures[failed:]],
            worker.engine_calls - calls,
            worker.provider,
        )

    def _begun(self) -> ArchiveWorker:
        """What measures. Raises InputError where this node does not fit to the driver."""
        import cv2

        cv2.setNumThreads(1)
        job = self._job
        if __version__ != job.version:
            raise InputError(
                f"microseg {__version__} is installed on a node of the cluster, and {job.version} where the command runs. "
                "Remedy: the same version on all nodes."
            )
        with suppress(OSError):
            os.chdir(job.folder)
        there = _seen(job.job.storage)
        if there.list_sha256 != job.job.archive.list_sha256:
            raise InputError(
                f"{job.job.storage.label}: holds results of another field list on a node. Remedy: another --out."
            )
        return ArchiveWorker(job.job, job.shard, self._open)

    def _open(self) -> Engine:
        """The engine: of the file, where this node has the same, or of its content."""
        path, config = self._job.job.engine, self._job.config
        if _is_same(path, self._job.job.settings.engine_sha256):
            return open_configured(EngineFile(path), config)
        with TemporaryDirectory(prefix="microseg-") as folder:
            for name, data in self._job.fetch_engine().items():
                Path(folder, name).write_bytes(data)
            return open_configured(EngineFile(Path(folder, path.name)), config)


def _seen(storage: Storage) -> Archive:
    """What the command wrote to the place of results. Raises InputError where this node does not see it."""
    for left in range(_LOOKS - 1, -1, -1):
        try:
            return read_archive(storage).archive
        except InputError as error:
            if not left:
                raise InputError(
                    f"{storage.label}: a node of the cluster does not see what the command wrote there ({error}). Remedy: a "
                    "folder that all nodes share, or object storage."
                ) from error
        # Network shares show new files to other machines after a moment.
        time.sleep(_LOOK_S)
    raise AssertionError("the last look returns or raises")


def _is_same(path: Path, sha256: str) -> bool:
    """Whether this node sees the engine's file with the content that the driver sees."""
    try:
        return EngineFile(path).require_intact().sha256 == sha256
    except (OSError, InputError):
        return False
