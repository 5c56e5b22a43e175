"""One place for files that are complete or absent, in a folder or in object storage."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Protocol


class Storage(Protocol):
    """A place with files. Names are relative posix paths.

    Attributes:
        label: what messages call it.
    """

    label: str

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, `folder` included, sorted; empty where there is none."""
        ...

    def is_empty(self) -> bool:
        """Whether the place holds nothing."""
        ...

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none."""
        ...

    def open(self, name: str) -> AbstractContextManager[BinaryIO]:
        """A file to be read at any position. Raises FileNotFoundError."""
        ...

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file as a whole."""
        ...

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one; whether it was written."""
        ...

    def temporary(self) -> AbstractContextManager[Path]:
        """A local path for a new file, which is removed at the end of the block where `put` did not take it."""
        ...

    def put(self, name: str, path: Path) -> None:
        """Take the file of `temporary` as a whole under this name."""
        ...

    def remove(self, name: str) -> None:
        """Remove a file, if there is one."""
        ...

    def require_writable(self) -> None:
        """Raise InputError where nothing can be written."""
        ...
