"""Standard streams that never end a command: closed ones, a full disk behind them, a reader that has gone."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

from microseg.core.errors import InputError

_MODES = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)
_USUAL_COLUMNS = 80


class Outlet(io.RawIOBase):
    """The raw stream below standard output or error. What cannot be written is dropped, and the first reason is kept.

    Attributes:
        error: the first reason; None as long as everything was written.
        is_told: whether the user was told.
    """

    def __init__(self, raw: Any, owner: object = None) -> None:
        """Args:
        raw: the raw stream that the interpreter opened.
        owner: what closes it when it is no longer used; held as long as this is.
        """
        self._raw = raw
        self._owner = owner
        self.error: OSError | None = None
        self.is_told = False

    def write(self, data: Any) -> int:
        """Write bytes; returns how many are taken."""
        if self.error is None:
            try:
                # None: the other end of a stream that does not block has no room yet.
                while (count := self._raw.write(data)) is None:
                    select.select([], [self._raw.fileno()], [])
                return int(count)
            except OSError as error:
                self.error = error
        return len(data)

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The descriptor."""
        return int(self._raw.fileno())

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return bool(self._raw.isatty())


def settle_streams() -> None:
    """Let this process print whatever its standard streams are. A command calls it first; it owns its process.

    A closed stream leads to nowhere: another file would get its number, and a library that prints would write into it.
    """
    for number, mode in enumerate(_MODES):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, mode)
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123 - open to the end
        elif isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _settled(stream))


def lost_output() -> str | None:
    """Why text for standard output is lost; None where nothing is, where its reader had read enough, or where it was told."""
    with suppress(OSError, ValueError):
        sys.stdout.flush()
    outlet = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if not isinstance(outlet, Outlet) or outlet.error is None or outlet.is_told or outlet.error.errno == errno.EPIPE:
        return None
    outlet.is_told = True
    return f"standard output cannot be written ({outlet.error.strerror}), and text for it is lost."


def print_result(text: str) -> None:
    """Print what a program reads. Raises InputError where it cannot be written as a whole."""
    print(text)
    if (lost := lost_output()) is not None:
        raise InputError(f"{lost} Remedy: free some space, or print to another place.")


def columns(stream: Any) -> int | None:
    """Columns to fill: what COLUMNS states, but no more than a terminal has; None for a file or a pipe, which has no width."""
    text = os.environ.get("COLUMNS", "")
    stated = int(text) if text.isdecimal() and int(text) > 0 else None
    try:
        found = os.get_terminal_size(stream.fileno()).columns if stream.isatty() else 0
    except (OSError, ValueError, AttributeError):
        found = 0
    if stated is not None:
        return min(stated, found or stated)
    return found or (_USUAL_COLUMNS if stream.isatty() else None)


def settle_columns() -> None:
    """Let libraries that read COLUMNS themselves fill as many columns as there are: at 0 they print nothing at all."""
    if "COLUMNS" in os.environ:
        if (found := columns(sys.stdout)) is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = str(found)


def _settled(stream: io.TextIOWrapper) -> TextIO:
    """The stream on an `Outlet`. A log file on Windows has fewer characters than phases and tables use: those become `?`."""
    raw = getattr(stream.buffer, "raw", stream.buffer)
    if isinstance(raw, Outlet) or not isinstance(raw, io.RawIOBase):
        stream.reconfigure(errors="replace")
        return stream
    with suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(Outlet(raw, stream)),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
