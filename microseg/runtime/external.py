"""Weights outside the file are refused before anything loads them: an engine is one file, and its hash covers it whole.

A path in an ONNX file can name any file of the station (`/etc/passwd`, `../other.bin`), so no runtime gets to see one.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from microseg.core.errors import InputError

# Field numbers of the messages of onnx.proto that hold tensors, and what lies behind each.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_KEY, _VALUE = 1, 2
_BYTES = 2
_DEEPEST = 60


def refuse_external_data(path: Path) -> None:
    """Raise InputError if any tensor of an ONNX file keeps its values in another file, or if the file is damaged."""
    try:
        with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for location in _locations(content, 0, len(content), "model", 0):
                raise _refused(path, location)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (IndexError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path}: is no ONNX file, or is damaged or cut off. Remedy: copy it again, or export the engine again."
        ) from error


def _locations(content: mmap.mmap, start: int, end: int, kind: str, depth: int) -> Iterator[str]:
    """Where the tensors of one message keep their values, if not in the file. Raises ValueError, IndexError."""
    if depth > _DEEPEST:
        raise ValueError("nested too deep")
    children = _CHILDREN[kind]
    while start < end:
        key, start = _key(content, start)
        wire = key & 7
        if wire == _BYTES:
            length, start = _varint(content, start)
            if start + length > end:
                raise ValueError("a record runs past its message")
            child = children.get(key >> 3)
            if child == "entry":
                yield _location(content, start, start + length)
            elif child is not None:
                yield from _locations(content, start, start + length, child, depth + 1)
            start += length
        elif wire == 0:
            _, start = _varint(content, start)
        elif wire in (1, 5):
            start += 8 if wire == 1 else 4
        else:
            raise ValueError("unknown wire type")


def _location(content: mmap.mmap, start: int, end: int) -> str:
    """What an entry of `external_data` says; entries other than the location (offset, length) tell of one too."""
    parts = {}
    while start < end:
        key, start = _key(content, start)
        length, start = _varint(content, start)
        parts[key >> 3] = content[start : start + length].decode("utf-8", "replace")
        start += length
    return parts.get(_VALUE, "") if parts.get(_KEY) == "location" else ""


def _key(content: mmap.mmap, start: int) -> tuple[int, int]:
    """The key that begins at `start`, and where it ends. Parsers drop what is above 32 bits, and would read another one."""
    key, end = _varint(content, start)
    if key >= 1 << 32:
        raise ValueError("a key is too long")
    return key, end


def _varint(content: mmap.mmap, start: int) -> tuple[int, int]:
    """The number that begins at `start`, and where it ends."""
    value = shift = 0
    while True:
        byte = content[start]
        start += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, start
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _refused(path: Path, location: str) -> InputError:
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if posix.is_absolute() or windows.anchor or ".." in posix.parts or ".." in windows.parts:
        return InputError(
            f"{path}: its weights point to {location!r}, outside its folder. It was not loaded. Remedy: an engine from "
            "a source you trust; `microseg export` writes none like this."
        )
    name = repr(location) if location else "another file"
    is_missing = location and not (path.parent / location).is_file()
    state = "is missing" if is_missing else "no hash covers"
    return InputError(
        f"{path}: keeps its weights in {name}, which {state}. Remedy: give the one file that `microseg export` wrote."
    )
