"""Weights outside an engine's file are refused before anything loads them.

An engine is one file, and its hash covers it whole. A path in an ONNX file can name any file of the station
(`/etc/passwd`, `../other.bin`), so no runtime opens such a file. Source: onnx.proto of ONNX, message TensorProto.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import BinaryIO

from microseg.core.errors import InputError
from microseg.core.system.files import unreadable
from microseg.runtime.protobuf import BYTES, DamagedError, records, strings

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
_DEEPEST = 60


def refuse_external_data(path: Path) -> None:
    """Raise InputError where a tensor of an ONNX file keeps its values in another file, or the file is damaged.

    Args:
        path: the ONNX file.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            if not size:
                raise DamagedError("empty")
            for location in _locations(stream, 0, size, "model", 0):
                raise _refused(path, location)
    except OSError as error:
        raise unreadable(path, error) from error
    except DamagedError as error:
        raise InputError(
            f"{path}: is no ONNX file, or is damaged or cut off. Remedy: copy or export the engine again."
        ) from error


def _locations(stream: BinaryIO, start: int, end: int, kind: str, depth: int) -> Iterator[str]:
    """Where the tensors of a message keep their values outside the file. Raises DamagedError, OSError."""
    if depth > _DEEPEST:
        raise DamagedError("nested too deep")
    children = _CHILDREN[kind]
    for number, wire, _, body, record_end in records(stream, start, end):
        if wire != BYTES or (child := children.get(number)) is None:
            continue
        if child == "entry":
            # Other entries (offset, length) stand for values in another file too.
            entry = strings(stream, body, record_end)
            yield entry.get(_VALUE, "") if entry.get(_KEY) == "location" else ""
        else:
            yield from _locations(stream, body, record_end, child, depth + 1)


def _refused(path: Path, location: str) -> InputError:
    posix, windows = PurePosixPath(location), PureWindowsPath(location)
    if posix.is_absolute() or windows.anchor or ".." in posix.parts or ".." in windows.parts:
        return InputError(
            f"{path}: its weights are in {location!r}, outside its folder. It was not loaded. Remedy: give an engine from a "
            "source that you trust; `microseg export` writes no such file."
        )
    name = repr(location) if location else "another file"
    is_missing = location and not (path.parent / location).is_file()
    state = "is missing" if is_missing else "no hash protects"
    return InputError(
        f"{path}: keeps its weights in {name}, which {state}. Remedy: give the one file that `microseg export` wrote."
    )
