"""File names in a report: the names of the input, made safe for every system that a report is copied to."""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from pathlib import Path, PurePosixPath

# Forbidden on Windows, or breaking links and archives; also a `%` that reads like our own escape.
_UNSAFE = re.compile(r'[\x00-\x1f\x7f<>:"\\|?*]|%(?=[0-9A-Fa-f]{2})|[ .]\Z')
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)", re.IGNORECASE)
# File systems allow 255 bytes. Suffixes and the temporary ending come on top of this.
_MAX_BYTES = 200


@lru_cache(64)  # each file of a field needs it, and several fields are under way
def report_path(name: str) -> str:
    """The path of a field in a report, to which a suffix is added.

    Ordinary names stay as they are, with their suffix, so that a.tif and a.png do not collide. Unsafe characters become %XX.
    A very long part is cut and gets a hash. Different names give different paths.

    Args:
        name: name of the field, a relative posix path.

    Returns:
        A relative posix path.
    """
    return PurePosixPath(*(_safe_part(part) for part in PurePosixPath(name).parts)).as_posix()


def _safe_part(part: str) -> str:
    safe = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part)
    if _RESERVED.match(safe):
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    if len(safe.encode()) > _MAX_BYTES:
        tail = hashlib.sha256(part.encode()).hexdigest()[:16]
        safe = f"{safe.encode()[: _MAX_BYTES - 17].decode(errors='ignore')}~{tail}"
    return safe


def absolute(path: Path) -> Path:
    """`path` from the root, without `.` and `..`. Links are not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links


def extended(path: Path, system: str = os.name) -> Path:
    """The absolute form of `path`; on Windows (`system` is "nt") the form that may exceed 260 characters."""
    text = str(absolute(path))
    if system != "nt" or text.startswith("\\\\?\\"):
        return Path(text)
    return Path("\\\\?\\UNC\\" + text[2:] if text.startswith("\\\\") else "\\\\?\\" + text)
