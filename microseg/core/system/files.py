"""Files that are complete or absent: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Self

from microseg.core.errors import InputError

PART_SUFFIX = ".part"


class Closing:
    """A context manager that closes itself."""

    def close(self) -> None:
        """Release what is held open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def require_writable(path: Path) -> None:
    """Raise InputError where a file cannot be written, before anything long is computed for it.

    Args:
        path: the file to be written.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Remedy: give the name of a file.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        # Rights are not enough: root has them on folders that are mounted read-only.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({folder} cannot be written to). Remedy: give another place."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A block that writes a temporary file beside `path`. It replaces `path` if the block ends without error.

    The rename is atomic on POSIX and Windows. Raises OSError as the file system does.

    Args:
        path: the file to be written.

    Yields:
        The temporary path, which is removed after an error.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART_SUFFIX}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes to a file, atomically. Raises OSError."""
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    r"""Write a text to a file as UTF-8 with `\n` line ends, atomically. Raises OSError."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically.

    Args:
        path: the file.
        value: what `json` accepts.

    Raises:
        ValueError: a NaN or an infinity; use None.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Any) -> None:
    """Write a value as YAML, keys in the order given, atomically. Raises OSError."""
    import yaml  # imported here: `segment` starts sooner without it

    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises InputError: it cannot be read, or is no YAML; the message names the line."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Remedy: check the path and its rights.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not valid YAML: {error}. Remedy: correct that line.") from error


def file_identity(path: Path) -> tuple[int, int]:
    """Size in bytes and time of change in ns: what changes when a file is replaced or written. Raises OSError.

    The inode is not part of it: on some network shares it changes by itself.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def unreadable(path: Path, error: OSError) -> InputError:
    """The error for a file that cannot be read.

    Args:
        path: the file.
        error: what the operating system says.
    """
    return InputError(f"{path}: cannot be read ({error.strerror or error}). Remedy: check the path and its rights.")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
