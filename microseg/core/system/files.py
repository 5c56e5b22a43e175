"""Files that are either complete or absent: write to a temporary name beside the target, then replace it."""

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
        """Give back what is held open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def require_writable(path: Path) -> None:
    """Raise InputError where `path` could not be written, before anything long is computed for it."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Remedy: the name of a file.")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    try:
        # Rights do not tell: root has them where nothing can be made, and on what is mounted read-only.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({folder} is no folder that may be written to). Remedy: another place."
        ) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` if the block ends well, remove it otherwise.

    The rename is atomic on POSIX and Windows (same folder). Raises OSError as the file system does.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}{PART_SUFFIX}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, atomically."""
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 `text` with `\\n` line ends to `path`, atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN is refused (ValueError): use None."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_yaml(path: Path, value: Any) -> None:
    """Write `value` as YAML in the order given, atomically."""
    import yaml  # here, because `segment` starts sooner without it

    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def read_yaml(path: Path) -> Any:
    """Parse a YAML file. Raises InputError that names the file and the line."""
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error}).") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path}: not valid YAML: {error}") from error


def file_identity(path: Path) -> tuple[int, int]:
    """What changes where a file is replaced or written: its size in bytes and its time in ns. Raises OSError.

    Its inode would tell as well, but on some network shares that changes by itself.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def unreadable(path: Path, error: OSError) -> InputError:
    """What to raise where a file cannot be read."""
    return InputError(f"{path}: cannot be read ({error.strerror or error}). Remedy: check the path and its rights.")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content as 64 hex digits, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
