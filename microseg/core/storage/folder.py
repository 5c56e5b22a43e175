"""A folder, also one of a network share that several machines write to."""

from __future__ import annotations

import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from microseg.core.errors import InputError
from microseg.core.system.files import make_folder, unwritable

# Temporary files lie below the place itself, so that a rename takes them there.
_TEMPORARY = "tmp"
_HOST = re.sub(r"[^A-Za-z0-9-]", "-", platform.node())[:64]
_OWN = re.compile(rf"{re.escape(_HOST)}\.(\d+)-[0-9a-f]+")
# Of other machines nothing shows whether they still write.
_OLD_S = 2 * 86400


class Folder:
    """A folder as a place of results."""

    def __init__(self, path: Path) -> None:
        """Args:
        path: the folder, which need not exist.
        """
        self.path = path
        self.label = str(path)

    def names(self, folder: str) -> list[str]:
        """The names of the files in a folder, `folder` included, sorted; empty where there is none."""
        try:
            with os.scandir(self.path / folder) as found:
                return sorted(f"{folder}/{entry.name}" for entry in found if entry.is_file())
        except FileNotFoundError:
            return []

    def is_empty(self) -> bool:
        """Whether the folder holds nothing but what a killed run left."""
        return not self.path.exists() or all(entry.name == _TEMPORARY for entry in self.path.iterdir())

    def read(self, name: str) -> bytes | None:
        """The content of a file; None where there is none. Raises OSError."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None
        except NotADirectoryError as error:
            raise InputError(f"{self.path}: is a file. Remedy: another --out.") from error

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """A file to be read at any position. Raises OSError."""
        with (self.path / name).open("rb") as stream:
            yield stream

    def write(self, name: str, data: bytes) -> None:
        """Write or replace a file as a whole. Raises InputError."""
        with self.temporary() as path:
            path.write_bytes(data)
            self.put(name, path)

    def create(self, name: str, data: bytes) -> bool:
        """Write a file unless there is one; whether it was written. Raises InputError."""
        with self.temporary() as path:
            path.write_bytes(data)
            target = self.path / name
            make_folder(target.parent)
            try:
                # Of two processes that begin at once, one makes the link.
                target.hardlink_to(path)
            except FileExistsError:
                return False
            except OSError:
                # A file system without hard links.
                if target.exists():
                    return False
                path.replace(target)
        return True

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A path for a new file, which is removed at the end of the block. Raises InputError."""
        folder = self.path / _TEMPORARY
        path = folder / f"{_HOST}.{os.getpid()}-{os.urandom(6).hex()}"
        try:
            make_folder(folder)
            yield path
        except OSError as error:
            raise unwritable(self.path, error) from error
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def put(self, name: str, path: Path) -> None:
        """Take the file of `temporary` as a whole under this name. Raises OSError."""
        target = self.path / name
        try:
            path.replace(target)
        except FileNotFoundError:
            make_folder(target.parent)
            path.replace(target)

    def remove(self, name: str) -> None:
        """Remove a file, if there is one. Raises OSError."""
        (self.path / name).unlink(missing_ok=True)

    def require_writable(self) -> None:
        """Raise InputError where nothing can be written. What killed runs left is removed."""
        with self.temporary() as path:
            path.write_bytes(b"")
        for left in (self.path / _TEMPORARY).iterdir():
            with suppress(OSError):
                own = _OWN.fullmatch(left.name)
                is_dead = own is not None and Path("/proc/self").exists() and not Path("/proc", own[1]).exists()
                if is_dead or time.time() - left.stat().st_mtime > _OLD_S:
                    left.unlink()
