"""A place in object storage, by its URL, through fsspec: `s3://`, `gs://`, `az://` and others.

Temporary errors are tried again with growing delays. Credentials come from where the storage's own tools look for them; URLs
with credentials are refused, so that none can come into a file or a message.
"""

from __future__ import annotations

import errno
import io
import random
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, TypeVar

from microseg.core.errors import InputError, MissingExtraError
from microseg.core.storage.folder import Folder
from microseg.core.storage.storage import Storage

_URL = re.compile(r"([a-z][a-z0-9+.-]+):/{1,2}([^/].*)")
_SECRET = re.compile(r"[^/?#]*:[^/?#]*@|[^?]*\?.*(signature|sig=|credential|token|secret|password)", re.IGNORECASE)
_TRIES, _FIRST_DELAY_S = 7, 0.1
_NO_CREDENTIALS = (
    "NoCredentialsError",
    "PartialCredentialsError",
    "DefaultCredentialsError",
    "ClientAuthenticationError",
)
# Larger objects are read in parts, each of which is tried again by itself.
_PART_BYTES = 16 << 20
_Found = TypeVar("_Found")


def url_of(path: Path) -> str | None:
    """The URL that a path of the command line is; None for a path. `Path` takes one of two slashes away.

    Args:
        path: what was given.

    Raises:
        InputError: the URL holds a password or a signature.
    """
    found = _URL.fullmatch(path.as_posix())
    if found is None or found[1] == "file" or Path(f"{found[1]}:").exists():
        return None
    if _SECRET.match(found[2]):
        raise InputError(
            f"{found[1]}://...: holds a password or a signature. Remedy: the URL alone, and credentials from the environment."
        )
    return f"{found[1]}://{found[2]}"


def place_of(path: Path) -> Storage:
    """The place of results at a path or URL. Raises InputError or MissingExtraError."""
    url = url_of(path)
    return Folder(path) if url is None else Objects(url)


def file_system(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it. Raises MissingExtraError or InputError."""
    try:
        from fsspec.core import url_to_fs
    except ImportError as error:
        raise MissingExtraError(f"{url.partition('://')[0]}://", "cloud") from error
    try:
        found, path = url_to_fs(url, use_listings_cache=False)
    except ImportError as error:
        raise InputError(f"{url}: needs a package that is not installed ({error}).") from error
    except ValueError as error:
        raise InputError(f"{url}: is no URL that is known ({error}). Remedy: such as s3://bucket/folder.") from error
    return found, path


def patiently(action: Callable[[], _Found]) -> _Found:
    """The result of an action on object storage, which is tried again after temporary errors.

    Args:
        action: the action. What it does twice must be as what it does once.

    Raises:
        OSError: what is not there (FileNotFoundError), is not allowed (PermissionError), or fails to the end.
    """
    delay_s = _FIRST_DELAY_S
    for left in range(_TRIES - 1, -1, -1):
        try:
            return action()
        except (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError):
            raise
        except Exception as error:  # each storage has errors of its own
            if type(error).__name__ in _NO_CREDENTIALS:
                raise PermissionError(errno.EACCES, "credentials are missing") from error
            if not left:
                raise OSError(errno.EIO, f"{type(error).__name__} after {_TRIES} tries") from error
        time.sleep(delay_s * random.uniform(0.5, 1.5))
        delay_s *= 2
    raise AssertionError("the last try returns or raises")


def read_object(files: Any, path: str, size: int) -> bytes:
    """The content of an object, in parts where it is large. Raises OSError.

    Args:
        files: its file system.
        path: its path.
        size: its bytes.
    """
    parts = []
    for start in range(0, size, _PART_BYTES):
        stop = min(size, start + _PART_BYTES)

        def part(start: int = start, stop: int = stop) -> bytes:
            data: bytes = files.cat_file(path, start=start, end=stop)
            if len(data) != stop - start:
                raise OSError(errno.EIO, "the answer is cut")
            return data

        parts.append(patiently(part))
    return b"".join(parts)


class Objects:
    """A place in object storage as a place of results."""

    def __init__(self, url: str) -> None:
        """Args:
        url: the place. Raises InputError or MissingExtraError.
        """
        self.label = url.rstrip("/")
        self._files, path = file_system(url)
        self._path = path.rstrip("/")

    def names(self, folder: str) -> list[str]:
        """The names of the objects in a folder, `folder` included, sorted; empty where there is none. Raises OSError."""
        try:
            found = patiently(lambda: self._files.ls(self._at(folder), detail=True, refresh=True))
        except FileNotFoundError:
            return []
        return sorted(f"{folder}/{each['name'].rpartition('/')[2]}" for each in found if each["type"] == "file")

    def is_empty(self) -> bool:
        """Whether nothing is there. Raises OSError."""
        try:
            return not patiently(lambda: self._files.ls(self._path, detail=False, refresh=True))
        except FileNotFoundError:
            return True

    def read(self, name: str) -> bytes | None:
        """The content of an object; None where there is none. Raises OSError."""
        try:
            size = patiently(lambda: self._files.info(self._at(name), refresh=True))["size"]
            return read_object(self._files, self._at(name), size)
        except FileNotFoundError:
            return None

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """An object to be read at any position. Raises OSError."""
        data = self.read(name)
        if data is None:
            raise FileNotFoundError(errno.ENOENT, "does not exist", f"{self.label}/{name}")
        yield io.BytesIO(data)

    def write(self, name: str, data: bytes) -> None:
        """Write or replace an object; storage shows it whole or not at all. Raises InputError."""
        try:
            patiently(lambda: self._files.pipe_file(self._at(name), data))
        except OSError as error:
            raise self._unwritable(error) from error

    def create(self, name: str, data: bytes) -> bool:
        """Write an object unless there is one; whether it was written. Raises InputError."""
        if self.read(name) is not None:
            return False
        self.write(name, data)
        return True

    @contextmanager
    def temporary(self) -> Iterator[Path]:
        """A local path for a new file, which is removed at the end of the block."""
        with TemporaryDirectory(prefix="microseg-") as folder:
            yield Path(folder, "part")

    def put(self, name: str, path: Path) -> None:
        """Take the file of `temporary` under this name. Raises InputError."""
        self.write(name, path.read_bytes())

    def remove(self, name: str) -> None:
        """Remove an object, if there is one. Raises OSError."""
        with suppress(FileNotFoundError):
            patiently(lambda: self._files.rm_file(self._at(name)))

    def require_writable(self) -> None:
        """Raise InputError where nothing can be written."""
        self.write("tmp/writable", b"")
        self.remove("tmp/writable")

    def _at(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _unwritable(self, error: OSError) -> InputError:
        what = "the bucket does not exist" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        return InputError(
            f"{self.label}: cannot be written ({what}). Remedy: check the URL, its rights and the credentials."
        )
