"""Where a path that is written leads to, and what may be replaced there.

A regular file and a new name are replaced as a whole. A link is followed. A character device and an open file of this process
(/dev/stdout) stay what they are and are written to directly. Everything else is refused.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

_MOST_LINKS = 40
# Replacing them destroys them. Writing to a pipe without reader waits for ever, and to a block device destroys a disk.
_REFUSED = (
    (stat.S_ISFIFO, "it is a named pipe"),
    (stat.S_ISSOCK, "it is a socket"),
    (stat.S_ISBLK, "it is a block device"),
)


def replaced_file(path: Path) -> Path | None:
    """The file that a writer of `path` replaces.

    Args:
        path: the path that is written.

    Returns:
        A regular file or a new name, with links followed. None: `path` is written to directly (`open_directly`).

    Raises:
        OSError: `path` is a folder, a named pipe, a socket, a block device, a read-only file, or its links lead in a circle.
    """
    try:
        found = path.lstat()
        if stat.S_ISREG(found.st_mode) and path.parent.name != "fd":
            return _writable(path)
        if own_descriptor(path) is not None:
            return None
        mode = path.stat().st_mode
    except FileNotFoundError:
        # Also the target of a link that leads to nothing yet.
        return resolved(path) if path.is_symlink() else path
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, "its links lead in a circle", str(path)) from error
        raise
    if stat.S_ISREG(mode):
        return _writable(resolved(path))
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    for is_kind, words in _REFUSED:
        if is_kind(mode):
            raise OSError(errno.EINVAL, words, str(path))
    return None


def open_directly(path: Path) -> BinaryIO:
    """Open a character device, or an open file of this process, to write to it as it is. Raises OSError.

    Args:
        path: a path for which `replaced_file` gives None.
    """
    number = own_descriptor(path)
    if number is None:
        # A terminal does not become the process's own, and a device that is not ready does not block the opening.
        flags = (getattr(os, name, 0) for name in ("O_NOCTTY", "O_NONBLOCK", "O_BINARY"))
        opened = os.open(path, os.O_WRONLY | sum(flags))
        if os.name == "posix":
            os.set_blocking(opened, True)
        return os.fdopen(opened, "wb")
    # A second descriptor of the same open file: the text that was printed before stays before.
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return os.fdopen(os.dup(number), "wb")


def resolved(path: Path) -> Path:
    """`path` from the root with all links followed. Unlike `Path.resolve` it takes links that lead in a circle as names."""
    return Path(os.path.realpath(path))


def own_descriptor(path: Path) -> int | None:
    """The number of the open file of this process that `path` names, also through links: 1 for /dev/stdout; else None."""
    ours = {resolved(Path(name)) for name in ("/proc/self/fd", "/proc/thread-self/fd", "/dev/fd")}
    place = path
    for _ in range(_MOST_LINKS):
        folder = resolved(place.parent)
        if folder in ours and place.name.isdecimal():
            return int(place.name)
        try:
            place = folder / (folder / place.name).readlink()
        except OSError:
            return None
    return None


def _writable(path: Path) -> Path:
    """`path`, an existing file. Raises PermissionError where it is read-only: a rename would replace it all the same."""
    if not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "it is read-only", str(path))
    return path
