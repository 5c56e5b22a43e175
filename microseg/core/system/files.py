"""Files that are complete or absent: written under a temporary name beside the target, then renamed."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any, Self

from microseg.core.errors import InputError
from microseg.core.system.targets import open_directly, own_descriptor, replaced_file, resolved

# Of the temporary files: the number of the process that writes it, and digits that no other process has.
_PART = re.compile(r"\.(?P<process>\d+)(-[0-9a-f]+)?\.part$")
# File systems allow 255 bytes. The ending of a temporary name comes on top of this.
_MOST_NAME_BYTES = 225
_FULL = (errno.ENOSPC, errno.EDQUOT)
_NO_FILE = (errno.EINVAL, errno.ELOOP, errno.EISDIR)


class Closing:
    """A context manager that closes itself."""

    def close(self) -> None:
        """Release what is held open."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def require_writable(path: Path, inputs: Iterable[Path | None] = ()) -> None:
    """Raise InputError where a file cannot be written, before anything long is computed for it.

    Args:
        path: the file to be written.
        inputs: files that the same command reads; `path` must be none of them.
    """
    try:
        if path.is_dir():
            raise InputError(f"{path}: is a folder. Remedy: give the name of a file.")
        for given in inputs:
            if given is not None and given.exists() and path.exists() and path.samefile(given):
                raise InputError(f"{path}: would be replaced, and the command reads it. Remedy: give another name.")
        target = replaced_file(path)
        if target is None:
            if (number := own_descriptor(path)) is not None:
                os.write(number, b"")
            return
        folder = next(parent for parent in target.absolute().parents if parent.exists())
        # Rights are not enough: root has them on folders that are mounted read-only.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        # The error may name the file of the trial.
        raise unwritable(path, OSError(error.errno, error.strerror)) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """A block that writes `path`. An OSError in it becomes an InputError with the remedy."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


def unwritable(path: Path, error: OSError) -> InputError:
    """The error for a file that cannot be written.

    Args:
        path: the file, or the folder that it belongs to.
        error: what the operating system says.
    """
    where = path_of(error) or str(path)
    if error.errno in _FULL:
        return InputError(
            f"{where}: the disk is full. Finished results are complete. Remedy: free some space, then repeat the same "
            "command."
        )
    remedy = "give the name of a file" if error.errno in _NO_FILE else "check its rights, or choose another place"
    return InputError(f"{where}: cannot be written ({error.strerror or error}). Remedy: {remedy}.")


def path_of(error: OSError) -> str | None:
    """The file that an error of the operating system is about, under its final name; None where it names none."""
    name = error.filename2 or error.filename
    return None if name is None or isinstance(name, int) else _PART.sub("", os.fsdecode(name))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A block that writes a temporary file beside `path`. It replaces `path` if the block ends without error.

    The rename is atomic on POSIX and Windows. An existing file keeps its rights, and its other hard links keep the earlier
    content. A link is followed. A device and an open file of the process (/dev/stdout) are written to directly at the end of
    the block. Raises OSError as the file system does, and for what is not written to (`replaced_file`).

    Args:
        path: the file to be written.

    Yields:
        The temporary path, which is removed after an error.
    """
    target = replaced_file(path)
    if target is None:
        with TemporaryDirectory(prefix="microseg-") as folder:
            part = Path(folder, "part")
            yield part
            _send(part, path)
        return
    make_folder(target.parent)
    part = target.with_name(_part_name(target.name))
    try:
        yield part
        _keep_rights(part, target)
        part.replace(target)
    except OSError as error:
        if error.filename is None:  # a write names no file
            error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def make_folder(path: Path) -> None:
    """Make a folder and those above it. A link to a folder that does not exist yet makes that folder. Raises OSError."""
    if not path.is_dir():
        resolved(path).mkdir(parents=True, exist_ok=True)


def is_abandoned(path: Path) -> bool:
    """Whether a path is a temporary file that no running process writes; known where /proc lists processes."""
    found = _PART.search(path.name)
    if found is None:
        return False
    process = int(found["process"])
    return process == os.getpid() or not Path("/proc", str(process)).exists()


def is_temporary(name: str) -> bool:
    """Whether a file's name is that of a temporary file of `replacing`."""
    return _PART.search(name) is not None


def final_name(name: str) -> str:
    """The name that a temporary file is to get; other names stay as they are."""
    return _PART.sub("", name)


def _part_name(name: str) -> str:
    """A temporary name that no other process uses, also none of another container that writes to the same folder."""
    if len(os.fsencode(name)) > _MOST_NAME_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()
    return f"{name}.{os.getpid()}-{os.urandom(4).hex()}.part"


def _keep_rights(part: Path, target: Path) -> None:
    """Give a temporary file the owner and the mode of the file that it replaces, as far as the system allows."""
    try:
        kept, made = target.stat(), part.stat()
    except FileNotFoundError:
        return
    with suppress(OSError):
        if os.name == "posix" and (kept.st_uid, kept.st_gid) != (made.st_uid, made.st_gid):
            os.chown(part, kept.st_uid, kept.st_gid)
    with suppress(OSError):
        if stat.S_IMODE(kept.st_mode) != stat.S_IMODE(made.st_mode):
            part.chmod(stat.S_IMODE(kept.st_mode))


def _send(part: Path, path: Path) -> None:
    """Write the content of a file to a device or an open file. Raises OSError that names it."""
    try:
        with part.open("rb") as source, open_directly(path) as stream:
            shutil.copyfileobj(source, stream)
    except BrokenPipeError:
        pass  # whoever reads it has read enough, such as `head`
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes to a file, atomically. Raises OSError."""
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    r"""Write a text to a file as UTF-8 with `\n` line ends, atomically. Raises OSError."""
    write_bytes(path, text.encode("utf-8"))


def write_together(files: Mapping[Path, str | bytes]) -> None:
    r"""Write texts, as UTF-8 with `\n` line ends, and bytes that belong together. Raises OSError.

    All of them are complete under temporary names before the first replaces its file, so that a full disk changes none. They
    replace their files in the order given.

    Args:
        files: the contents by file.
    """
    with ExitStack() as stack:
        for path, content in reversed(list(files.items())):
            data = content.encode("utf-8") if isinstance(content, str) else content
            stack.enter_context(replacing(path)).write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write a value as indented JSON, atomically.

    Args:
        path: the file.
        value: what `json` accepts.

    Raises:
        ValueError: a NaN or an infinity; use None.
    """
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """A value as indented JSON. Raises ValueError for a NaN or an infinity."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_yaml(path: Path, value: Any) -> None:
    """Write a value as YAML, keys in the order given, atomically. Raises OSError."""
    import yaml  # imported here: `segment` starts sooner without it

    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


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


def read_at_most(path: Path, most_bytes: int, remedy: str, option: str = "") -> bytes:
    """The content of a file that somebody else wrote, and that is refused where it is larger than such a file can be.

    Args:
        path: the file.
        most_bytes: its largest size.
        remedy: what to do where it is larger.
        option: the option that names the file, for the message.

    Raises:
        InputError: it cannot be read, or is larger.
    """
    try:
        with path.open("rb") as stream:
            data = stream.read(most_bytes + 1)
    except OSError as error:
        raise unreadable(path, error) from error
    if len(data) > most_bytes:
        raise InputError(f"{f'{option} {path}'.strip()}: is larger than {most_bytes >> 20} MiB. Remedy: {remedy}.")
    return data


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
