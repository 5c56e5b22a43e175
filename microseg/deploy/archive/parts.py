"""Files of finished results, written while a shard runs, so that a killed run loses little."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from microseg.core.errors import InputError
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.results import FOLDER, packed

if TYPE_CHECKING:
    import pyarrow

# Rows of a file. It is written again with each new row that is due, until it is full.
_ROWS = 2048
# At least so many seconds, and so many times the duration of the last writing, lie between two writings.
_PERIODS = 50


class PartWriter:
    """Writes the rows of one process to files that no other process writes."""

    def __init__(
        self, storage: Storage, columns: pyarrow.Schema, shard: str, tie: Callable[[], str], period_s: float
    ) -> None:
        """Args:
        storage: where the results lie.
        columns: the columns of the table.
        shard: the shard, for the names of the files.
        tie: what the results belong to, as JSON; asked for at each writing.
        period_s: least time between two writings in seconds.
        """
        self._storage = storage
        self._columns = columns
        self._tie = tie
        self._least_s = self._period_s = period_s
        # Machines may have equal process numbers and clocks that differ.
        self._name = f"part-{shard.replace('/', '-of-')}-{os.urandom(6).hex()}"
        self._number = 0
        self._rows: list[dict[str, Any]] = []
        self._unwritten = 0
        self._written_at = time.monotonic()
        self._lock = threading.Lock()
        self._is_begun = False
        self._timer: threading.Timer | None = None
        self._error: InputError | None = None

    def begin(self) -> None:
        """From now on rows are written: the place says what they belong to."""
        self._is_begun = True

    def add(self, row: dict[str, Any]) -> None:
        """Take a row. It is written at once, or soon, whatever the next field takes. Raises InputError."""
        with self._lock:
            self._rows.append(row)
            self._unwritten += 1
            if not self._is_begun:
                return
            if self._error is not None:
                raise self._error
            left_s = self._period_s - (time.monotonic() - self._written_at)
            if len(self._rows) >= _ROWS or left_s <= 0:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(left_s, self._write_soon)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what is not written yet. Raises InputError."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            if self._unwritten:
                self._write()

    def _write_soon(self) -> None:
        with self._lock:
            self._timer = None
            try:
                if self._unwritten:
                    self._write()
            except InputError as error:
                self._error = error  # the next row, or the end, tells it

    def _write(self) -> None:
        begun = time.monotonic()
        name = f"{FOLDER}/{self._name}-{self._number:04d}.parquet"
        self._storage.write(name, packed(self._rows, self._columns, self._tie()))
        self._written_at = time.monotonic()
        self._period_s = max(self._least_s, _PERIODS * (self._written_at - begun))
        self._unwritten = 0
        if len(self._rows) >= _ROWS:
            self._rows = []
            self._number += 1
