"""An engine's file as one object: what a command reads of it, it reads once and hands on."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from microseg.core.errors import InputError, MicrosegError
from microseg.core.schemas.keys import MANIFEST_SHA256_KEY, METADATA_KEY, REFERENCE_KEY
from microseg.core.system.files import file_identity, unreadable
from microseg.runtime.engine_metadata import FileHashes, file_hashes, is_plan, read_entries, text_sha256
from microseg.runtime.external import refuse_external_data

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.reference import Reference

_REMEDY = "copy or export the engine again"


class EngineFile:
    """The file of an engine, `.onnx` or `.plan`. Each part is read at its first use and kept.

    Attributes:
        path: the file.
        is_plan: whether it is a TensorRT plan, whose manifest lies beside it.

    Raises:
        InputError: there is no such file.
    """

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            raise InputError(
                f"{path}: is a folder. Remedy: give the .onnx file; `microseg export RUN` makes one of a run."
            )
        if not path.is_file():
            raise InputError(
                f"{path}: does not exist. Remedy: give the .onnx or .plan file that `microseg export` wrote."
            )
        self.path = path
        self.is_plan = is_plan(path)
        try:
            self._identity = file_identity(path)
        except OSError as error:
            raise unreadable(path, error) from error

    @classmethod
    def of(cls, source: Path | EngineFile) -> EngineFile:
        """`source` itself where it is an engine file already, else the engine file at that path. Raises InputError."""
        return source if isinstance(source, EngineFile) else cls(source)

    @property
    def size_bytes(self) -> int:
        """Size of the file in bytes, as it was at the beginning."""
        return self._identity[0]

    @cached_property
    def manifest(self) -> Manifest:
        """The manifest, checked.

        Raises:
            InputError: the file is no engine of microseg, is damaged, or comes from a newer version.
        """
        # Imported here: what checks a manifest is slow to import, and a network can be loading meanwhile.
        from microseg.core.schemas.manifest import Manifest

        manifest = Manifest.parsed(self.manifest_text, self.path, "its manifest", _REMEDY)
        if self.is_plan != (manifest.plan is not None):
            raise InputError(
                f"{self.path}: its manifest is that of another kind of engine. Remedy: copy the engine with its own "
                "manifest, or export it again."
            )
        return manifest

    @cached_property
    def manifest_text(self) -> str:
        """The manifest's JSON as the file has it, not checked. Raises InputError where there is none."""
        text = self._entries.get(METADATA_KEY)
        if text is None:
            raise InputError(
                f"{self.path}: is an ONNX file without microseg's manifest, so its phases and preparation are unknown. "
                "Remedy: give a file that `microseg export` wrote."
            )
        return text

    @cached_property
    def unchecked_manifest(self) -> Mapping[str, Any]:
        """The manifest's keys and values without the time that the check takes; empty where the JSON is damaged.

        `manifest` reports the damage. Raises InputError where there is no manifest.
        """
        try:
            content = json.loads(self.manifest_text)
        except ValueError:
            return {}
        return content if isinstance(content, dict) else {}

    @cached_property
    def reference(self) -> Reference | None:
        """The reference tiles; None where the engine carries none. Raises InputError for damaged ones."""
        from microseg.core.schemas.reference import Reference

        text = self._entries.get(REFERENCE_KEY)
        return None if text is None else Reference.parsed(text, self.path, "the entry of its reference tiles", _REMEDY)

    @cached_property
    def hashes(self) -> FileHashes:
        """SHA-256 of the network and of the whole file. Reads every byte. Raises InputError where it cannot."""
        return file_hashes(self.path)

    @property
    def sha256(self) -> str:
        """SHA-256 of the whole file, which a report is tied to. Raises InputError."""
        return self.hashes.whole

    @property
    def is_network_intact(self) -> bool:
        """Whether the network is the exported one. Raises InputError."""
        return self.hashes.network == self.manifest.network_sha256

    @property
    def is_manifest_intact(self) -> bool:
        """Whether the manifest is the exported one. Raises InputError where there is none."""
        return self._entries.get(MANIFEST_SHA256_KEY) == text_sha256(self.manifest_text)

    def require_intact(self) -> Self:
        """Return the file itself if network and manifest are the exported ones.

        Raises:
            InputError: one of them was changed, or the file cannot be read.
        """
        if not self.is_network_intact:
            if not self.is_plan:
                refuse_external_data(self.path)
            raise InputError(
                f"{self.path}: its network is not the one that was exported (damaged or changed). Remedy: copy the engine "
                "again."
            )
        if not self.is_manifest_intact:
            raise InputError(
                f"{self.path}: its manifest is not the one that was exported (changed by hand), so its phases and its "
                "preparation are unknown. Remedy: copy or export the engine again."
            )
        return self

    @contextmanager
    def unchanged(self) -> Iterator[Self]:
        """A block that reads the file. It ends in an InputError, and in no other, where the file changes.

        The file is compared with its state when this object was made, by size and time of change.
        """
        try:
            yield self
        except MicrosegError:
            self.require_unchanged()  # a change explains the error
            raise
        self.require_unchanged()

    def require_unchanged(self) -> None:
        """Raise InputError where the file has changed since this object was made."""
        try:
            if file_identity(self.path) == self._identity:
                return
        except OSError:
            pass
        raise InputError(f"{self.path}: changed while it was read. Remedy: repeat the command.")

    @cached_property
    def _entries(self) -> dict[str, str]:
        return read_entries(self.path)


def read_manifest(path: Path) -> Manifest:
    """The manifest of the engine at `path`, for callers that need nothing else of it. Raises InputError."""
    return EngineFile(path).manifest
