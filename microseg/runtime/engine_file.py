"""An engine's manifest and hashes without loading a network: in an ONNX file's metadata, or beside a TensorRT plan.

An ONNX file is one protocol-buffer message (`ModelProto`). Only its top level is walked: the metadata are a few
kilobytes among hundreds of megabytes of weights, which are skipped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.errors import InputError, MicrosegError
from microseg.core.schemas.keys import MANIFEST_SHA256_KEY, METADATA_KEY, REFERENCE_KEY
from microseg.core.system.files import file_identity, sha256_of, unreadable
from microseg.runtime.external import refuse_external_data
from microseg.runtime.protobuf import DamagedError, record, records, strings

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.reference import Reference

# Field numbers of ModelProto and StringStringEntryProto (onnx.proto).
_GRAPH, _METADATA, _KEY, _VALUE = 7, 14, 1, 2
# Read and hashed at a time: large, for after each the interpreter's lock is waited for, which imports hold for long.
_BLOCK = 16 << 20


@dataclass(frozen=True)
class FileHashes:
    """SHA-256 of an engine's file, 64 hex digits each.

    network: of an ONNX file without its metadata, of a plan as a whole. whole: of all of it, what a report is tied to.
    """

    network: str
    whole: str


def read_manifest(path: Path) -> Manifest:
    """The manifest of an engine, `.onnx` or `.plan`.

    Raises InputError: no such file, no engine of ours, made by a newer microseg, damaged.
    """
    # Here rather than above: what checks a manifest is slow to import, and a network can be loading meanwhile.
    from pydantic import ValidationError

    from microseg.core.schemas.manifest import MANIFEST_VERSION, Manifest

    try:
        content = json.loads(manifest_text(path))
        version = content["manifest_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: its manifest is damaged ({error}). Remedy: copy or export the engine again."
        ) from error
    if isinstance(version, int) and version > MANIFEST_VERSION:
        raise InputError(
            f"{path}: manifest version {version}; this microseg reads up to {MANIFEST_VERSION}. "
            "Remedy: pip install --upgrade microseg, or export the engine with this version."
        )
    try:
        manifest = Manifest.model_validate(content)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "manifest"
        raise InputError(
            f"{path}: its manifest is damaged ({where}: {problem['msg']}). Remedy: copy or export the engine again."
        ) from error
    if is_plan(path) != (manifest.plan is not None):
        raise InputError(
            f"{path}: its manifest is that of another kind of engine. Remedy: copy the engine with its own manifest, "
            "or export it again."
        )
    return manifest


def is_plan(path: Path) -> bool:
    """Whether a file is a TensorRT plan, by its name."""
    return path.suffix.lower() == ".plan"


def manifest_text(path: Path) -> str:
    """The manifest's JSON as it stands in or beside the engine, unchecked. Raises InputError as `read_manifest` does."""
    text = _entries(path).get(METADATA_KEY)
    if text is None:
        raise InputError(
            f"{path}: is an ONNX file without microseg's manifest, so its phases and preparation are unknown. "
            "Remedy: give a file that `microseg export` wrote."
        )
    return text


def read_reference(path: Path) -> Reference | None:
    """The reference tiles of an engine; None where it carries none. Raises InputError for damaged ones."""
    from microseg.core.schemas.reference import parse_reference

    text = _entries(path).get(REFERENCE_KEY)
    return None if text is None else parse_reference(text)


def manifest_entries(manifest: Manifest) -> dict[str, str]:
    """The metadata entries of an ONNX engine: its manifest, and the hash that tells whether it was changed since."""
    text = manifest.model_dump_json()
    return {METADATA_KEY: text, MANIFEST_SHA256_KEY: _text_sha256(text)}


def is_manifest_intact(path: Path) -> bool:
    """Whether the manifest is the one that was exported. Raises InputError where there is none."""
    return _entries(path).get(MANIFEST_SHA256_KEY) == _text_sha256(manifest_text(path))


def text_beside(manifest: Manifest, reference: Reference | None) -> str:
    """What goes into the file beside a plan: the manifest, its hash and the reference tiles under keys of their own."""
    content = json.loads(manifest.model_dump_json())
    content[MANIFEST_SHA256_KEY] = _text_sha256(json.dumps(content))
    if reference is not None:
        content[REFERENCE_KEY] = json.loads(reference.model_dump_json())
    return json.dumps(content, indent=2) + "\n"


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _entries(path: Path) -> dict[str, str]:
    """The metadata entries in or beside an engine, unchecked. Raises InputError where there is no such file."""
    require_engine_file(path)
    if not is_plan(path):
        return read_metadata(path)
    text = _text_beside(path)
    try:
        content = json.loads(text)
    except ValueError:
        return {METADATA_KEY: text}  # reading the manifest will say what is wrong with it
    others = {}
    if isinstance(content, dict):
        others = {key: content.pop(key) for key in (MANIFEST_SHA256_KEY, REFERENCE_KEY) if key in content}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in others.items()}
    return {METADATA_KEY: json.dumps(content)} | texts


def _text_beside(path: Path) -> str:
    from microseg.core.schemas.manifest import plan_manifest_path

    beside = plan_manifest_path(path)
    try:
        return beside.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(
            f"{beside}: is missing; a plan is nothing without its manifest. Remedy: copy both files, or build the plan "
            f"again: microseg export ENGINE.onnx --out {path}"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{beside}: is damaged ({error}). Remedy: copy or export the engine again.") from error
    except OSError as error:
        raise unreadable(beside, error) from error


def engine_sha256(path: Path) -> str:
    """SHA-256 of the whole engine file: what a report is tied to. Raises InputError if it cannot be read."""
    try:
        return sha256_of(path)
    except OSError as error:
        raise unreadable(path, error) from error


def model_sha256(path: Path) -> str:
    """SHA-256 of an ONNX file without its metadata entries: the manifest's `model_sha256`. Raises InputError."""
    return file_hashes(path).network


def verified_sha256(path: Path, manifest: Manifest, hashes: FileHashes | None = None) -> str:
    """`engine_sha256`, after making sure that network and manifest are those that were exported. Raises InputError.

    hashes: `file_hashes` of it, where that is known.
    """
    hashes = hashes or file_hashes(path)
    if hashes.network != manifest.network_sha256:
        if manifest.plan is None:
            refuse_external_data(path)
        raise InputError(
            f"{path}: its network is not the one that was exported (damaged or changed). Remedy: copy the engine again."
        )
    if not is_manifest_intact(path):
        raise InputError(
            f"{path}: its manifest is not the one that was exported (changed by hand), so what its phases and its "
            "preparation are is not known. Remedy: copy or export the engine again."
        )
    return hashes.whole


def is_intact(path: Path, manifest: Manifest) -> bool:
    """Whether the network is the one that was exported. Raises InputError where the file cannot be read."""
    return file_hashes(path).network == manifest.network_sha256


def file_hashes(path: Path) -> FileHashes:
    """Both hashes in one reading; those of an ONNX file part at its first metadata. Raises InputError."""
    if is_plan(path):
        sha256 = engine_sha256(path)
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


def require_engine_file(path: Path) -> None:
    """Raise InputError where there is no file that could be an engine."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder. Remedy: give the .onnx file; `microseg export RUN` makes one of a run.")
    if not path.is_file():
        raise InputError(f"{path}: does not exist. Remedy: give the .onnx or .plan file that `microseg export` wrote.")


@contextmanager
def unchanged(path: Path, since: tuple[int, int] | None = None) -> Iterator[None]:
    """A block that reads an engine more than once. Raises InputError where its file changes meanwhile, nothing else then.

    since: the `file_identity` that it must still have; by default that at the block's begin.
    """
    require_engine_file(path)
    identity = since or file_identity(path)
    try:
        yield
    except MicrosegError:
        _require_unchanged(path, identity)  # it tells better what happened
        raise
    _require_unchanged(path, identity)


def _require_unchanged(path: Path, identity: tuple[int, int]) -> None:
    try:
        if file_identity(path) == identity:
            return
    except OSError:
        pass
    raise InputError(f"{path}: changed while it was read. Remedy: repeat the command.")


def append_metadata(path: Path, key: str, value: str) -> None:
    """Add a metadata entry to an ONNX file; of two with one key the later counts. The network's hash stays.

    Protocol buffers may be continued: the entry is one more record at the end, so nothing else is read or rewritten.
    """
    entry = b"".join(record(field, text.encode("utf-8")) for field, text in ((_KEY, key), (_VALUE, value)))
    with path.open("ab") as stream:
        stream.write(record(_METADATA, entry))


def read_metadata(path: Path) -> dict[str, str]:
    """`metadata_props` of an ONNX file. Raises InputError if the file is no ONNX file, or cut off."""
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
