"""The metadata of an engine's file and its hashes, read and written without loading a network.

An ONNX file is one protocol-buffer message (`ModelProto`). Only its top level is read: the metadata take a few kilobytes
beside hundreds of megabytes of weights, which are skipped. Source: onnx.proto of ONNX, message ModelProto.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.errors import InputError
from microseg.core.schemas.keys import MANIFEST_SHA256_KEY, METADATA_KEY, REFERENCE_KEY
from microseg.core.system.files import sha256_of, unreadable
from microseg.runtime.protobuf import DamagedError, record, records, strings

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.reference import Reference

# Field numbers of ModelProto and StringStringEntryProto (onnx.proto).
_GRAPH, _METADATA, _KEY, _VALUE = 7, 14, 1, 2
# Bytes read and hashed at a time. Each block waits for the interpreter's lock, which imports hold for long: large blocks.
_BLOCK = 16 << 20


@dataclass(frozen=True)
class FileHashes:
    """SHA-256 of an engine's file, 64 hex digits each.

    network: an ONNX file without its metadata; a plan as a whole.
    whole: every byte of the file.
    """

    network: str
    whole: str


def is_plan(path: Path) -> bool:
    """Whether a file is a TensorRT plan, by its name."""
    return path.suffix.lower() == ".plan"


def manifest_entries(manifest: Manifest) -> dict[str, str]:
    """The metadata entries of an ONNX engine: its manifest, and the hash of that text."""
    text = manifest.model_dump_json()
    return {METADATA_KEY: text, MANIFEST_SHA256_KEY: text_sha256(text)}


def text_beside(manifest: Manifest, reference: Reference | None) -> str:
    """The content of the JSON file beside a plan: the manifest, its hash and the reference tiles.

    The hash and the tiles have keys of their own among those of the manifest.
    """
    content = json.loads(manifest.model_dump_json())
    content[MANIFEST_SHA256_KEY] = text_sha256(json.dumps(content))
    if reference is not None:
        content[REFERENCE_KEY] = json.loads(reference.model_dump_json())
    return json.dumps(content, indent=2) + "\n"


def text_sha256(text: str) -> str:
    """SHA-256 of a text in UTF-8, 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def read_entries(path: Path) -> dict[str, str]:
    """The metadata entries in an ONNX file or beside a plan, by key, not checked.

    Raises:
        InputError: the file is no ONNX file, is cut off or cannot be read, or the plan's manifest is missing.
    """
    if not is_plan(path):
        return read_metadata(path)
    text = _text_beside(path)
    try:
        content = json.loads(text)
    except ValueError:
        return {METADATA_KEY: text}  # the check of the manifest reports what is wrong
    others = {}
    if isinstance(content, dict):
        others = {key: content.pop(key) for key in (MANIFEST_SHA256_KEY, REFERENCE_KEY) if key in content}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in others.items()}
    return {METADATA_KEY: json.dumps(content)} | texts


def _text_beside(path: Path) -> str:
    from microseg.core.schemas.plan import plan_manifest_path

    beside = plan_manifest_path(path)
    try:
        return beside.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"{beside}: is missing. A plan needs the manifest beside it. Remedy: copy both files, or build the plan again: "
            f"microseg export ENGINE.onnx --out {path}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{beside}: is damaged ({error}). Remedy: copy or export the engine again.") from error
    except OSError as error:
        raise unreadable(beside, error) from error


def file_hashes(path: Path) -> FileHashes:
    """Both hashes of an engine's file in one reading.

    Raises:
        InputError: the file cannot be read, or is no ONNX file.
    """
    if is_plan(path):
        try:
            sha256 = sha256_of(path)
        except OSError as error:
            raise unreadable(path, error) from error
        return FileHashes(sha256, sha256)
    network = whole = hashlib.sha256()
    try:
        size = path.stat().st_size
        block = memoryview(bytearray(min(_BLOCK, size)))
        with path.open("rb") as stream:
            for number, _, start, _, end in records(stream, 0, size):
                if number == _METADATA and whole is network:
                    whole = network.copy()
                digests = [whole] if number == _METADATA or whole is network else [whole, network]
                stream.seek(start)
                while start < end:
                    if not (count := stream.readinto(block[: end - start])):
                        raise DamagedError("cut off")
                    for digest in digests:
                        digest.update(block[:count])
                    start += count
    except OSError as error:
        raise unreadable(path, error) from error
    except DamagedError as error:
        raise _not_onnx(path) from error
    return FileHashes(network.hexdigest(), whole.hexdigest())


def append_metadata(path: Path, key: str, value: str) -> None:
    """Append a metadata entry to an ONNX file. Of two entries with one key the later counts. The network's hash stays.

    The entry is one more record at the end of the message, so nothing else is read or rewritten. Raises OSError.
    """
    entry = b"".join(record(field, text.encode("utf-8")) for field, text in ((_KEY, key), (_VALUE, value)))
    with path.open("ab") as stream:
        stream.write(record(_METADATA, entry))


def read_metadata(path: Path) -> dict[str, str]:
    """`metadata_props` of an ONNX file, by key. Raises InputError: no ONNX file, cut off, or unreadable."""
    entries: dict[str, str] = {}
    has_graph = False
    try:
        with path.open("rb") as stream:
            for number, _, _, body, end in records(stream, 0, path.stat().st_size):
                has_graph = has_graph or number == _GRAPH
                if number == _METADATA:
                    parts = strings(stream, body, end)
                    entries[parts.get(_KEY, "")] = parts.get(_VALUE, "")
    except OSError as error:
        raise unreadable(path, error) from error
    except DamagedError as error:
        raise _not_onnx(path) from error
    if not has_graph:
        raise _not_onnx(path)
    return entries


def _not_onnx(path: Path) -> InputError:
    return InputError(
        f"{path}: is no ONNX file, or is cut off. Remedy: give a file that `microseg export` wrote; copy it again."
    )
