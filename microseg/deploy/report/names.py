"""File names in a report: the names of the input, made safe for every system that a report is copied to."""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path, PurePosixPath

# Forbidden on Windows, breaking links and archives, or turning the direction of writing; also a `%` that reads like our escape.
_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069<>:"\\|?*]|%(?=[0-9A-Fa-f]{2})|[ .]\Z'
)
# Devices of Windows in every folder and with every suffix, also with superscript digits.
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\u00b9\u00b2\u00b3]) *(\.|$)", re.IGNORECASE)
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


def report_paths(names: Iterable[str]) -> dict[str, str]:
    """The path of each field in a report, so that no two are one file on any system.

    Windows and macOS take names for equal that differ only in case or in Unicode normalisation. Of such names, the one
    in lower case and composed form keeps its `report_path`; the others get a `distinct_path`. No other field changes a path.

    Args:
        names: names of all fields of the input.
    """
    by_form: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_form[caseless(name)].append(name)
    return {
        name: report_path(name) if len(alike) == 1 or name == form else distinct_path(name)
        for form, alike in by_form.items()
        for name in alike
    }


def distinct_path(name: str) -> str:
    """`report_path` with a hash of the name, for a field whose name differs too little from that of another one."""
    return f"{report_path(name)}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def caseless(name: str) -> str:
    """The form that all names have in common which some file system takes for equal.

    As canonical caseless matching of Unicode (3.13, D145), but by capitals first: NTFS compares these.
    """
    if name.isascii():
        return name.lower()
    folded = unicodedata.normalize("NFD", name).upper().casefold()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", folded))


def _safe_part(part: str) -> str:
    safe = _UNSAFE.sub(_escape, part)
    if _RESERVED.match(safe):
        safe = f"%{ord(safe[0]):02X}{safe[1:]}"
    if len(safe.encode()) > _MAX_BYTES:
        tail = hashlib.sha256(part.encode()).hexdigest()[:16]
        safe = f"{safe.encode()[: _MAX_BYTES - 17].decode(errors='ignore')}~{tail}"
    return safe


def _escape(found: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in found[0].encode())


def absolute(path: Path) -> Path:
    """`path` from the root, without `.` and `..`. Links are not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() follows links


def extended(path: Path, system: str = os.name) -> Path:
    """The absolute form of `path`; on Windows (`system` is "nt") the form that may exceed 260 characters."""
    text = str(absolute(path))
    if system != "nt" or text.startswith("\\\\?\\"):
        return Path(text)
    return Path("\\\\?\\UNC\\" + text[2:] if text.startswith("\\\\") else "\\\\?\\" + text)
