"""`archive.json`: which field list and engine the results of an archive belong to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from microseg.core.errors import InputError
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.validation import validation_beside
from microseg.core.schemas.versioned import VersionedModel
from microseg.core.storage.storage import Storage
from microseg.deploy.archive.lists.field_list import FieldList, FieldListInfo, ListScan
from microseg.deploy.report.settings_file import ReportSettings, continued, with_version

ARCHIVE_VERSION = 1
ARCHIVE, SETTINGS, ENGINE = "archive.json", "settings.json", "engine.json"
_AGAIN = "measure into another --out"


class Archive(VersionedModel):
    """`archive.json` beside the tables of an archive."""

    schema_name: ClassVar[str] = "archive"
    schema_version: ClassVar[tuple[int, int]] = (ARCHIVE_VERSION, 0)
    version_key: ClassVar[str] = "archive_version"

    archive_version: int = Field(ARCHIVE_VERSION, description="Major version of this schema.")
    list_sha256: str = Field(description="Identity of the field list: a hash of its rows.")
    fields: int = Field(description="Number of fields of the list.")
    title: str = Field(description="Name of the input.")
    left_out: list[str] = Field(description="What lay in the input and is no field, one sentence for each kind.")


def archive_of(fields: FieldList, scan: ListScan) -> Archive:
    """What an archive of a list says of it."""
    info: FieldListInfo = fields.info
    return Archive(
        list_sha256=scan.sha256,
        fields=fields.rows,
        title=info.title,
        left_out=info.left_out,
    )


def check_archive(storage: Storage, archive: Archive, settings: ReportSettings) -> ReportSettings:
    """Make sure that a place is empty or holds results of this list with these settings. It writes nothing.

    Returns:
        The settings, with the day and the runtime's version of results that are continued.

    Raises:
        InputError: something else lies there, or results of another list, engine or settings.
    """
    known = _read(storage)
    if known is None:
        if not storage.is_empty():
            raise InputError(
                f"{storage.label}: is not empty and holds no results of a field list. Remedy: another --out."
            )
        return settings
    if known.list_sha256 != archive.list_sha256:
        raise InputError(
            f"{storage.label}: holds results of another field list ({known.title}, {known.fields} fields; this one is "
            f"{archive.title}, {archive.fields} fields). Remedy: another --out, or the list that it was begun with."
        )
    content = storage.read(SETTINGS)
    return settings if content is None else continued(_json(content, storage), settings, storage.label)


def begin_archive(
    storage: Storage, archive: Archive, settings: ReportSettings, engine: Path, manifest: Manifest
) -> None:
    """Say which list and engine the results belong to, or make sure that another process said the same.

    Args:
        storage: where they lie.
        archive: what they belong to.
        settings: their settings, with the runtime's version.
        engine: the engine's file.
        manifest: its manifest, which `merge` needs.

    Raises:
        InputError: another process began otherwise, or nothing can be written.
    """
    # First of all: what a killed process leaves is known for results of this list.
    if not storage.create(ARCHIVE, (archive.model_dump_json(indent=2) + "\n").encode()):
        check_archive(storage, archive, settings)
    storage.create(ENGINE, manifest.model_dump_json().encode())
    beside = validation_beside(engine)
    if beside.exists():
        storage.write(beside.name, beside.read_bytes())
    text = (json.dumps(settings.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()
    if storage.create(SETTINGS, text):
        return
    # Another process may have begun since the first look.
    content = _json(storage.read(SETTINGS) or b"{}", storage)
    kept = continued(content, settings, storage.label)
    if settings.runtime_version is not None:
        with_version(kept, settings.runtime_version, storage.label)
        if kept.runtime_version is None:
            storage.write(SETTINGS, text)


@dataclass(frozen=True)
class Begun:
    """What lies in a place of results.

    Attributes:
        archive: what they belong to.
        settings: their settings.
        manifest: the engine's manifest.
    """

    archive: Archive
    settings: ReportSettings
    manifest: Manifest


def read_archive(storage: Storage) -> Begun:
    """What the results in a place belong to. Raises InputError where it holds none."""
    archive = _read(storage)
    settings, manifest = storage.read(SETTINGS), storage.read(ENGINE)
    if archive is None or settings is None or manifest is None:
        raise InputError(
            f"{storage.label}: holds no results of a field list. Remedy: the --out of `microseg segment FIELDS.parquet`."
        )
    return Begun(
        archive,
        ReportSettings.parsed(settings, f"{storage.label}/{SETTINGS}", "its settings", _AGAIN),
        Manifest.parsed(manifest, f"{storage.label}/{ENGINE}", "the engine's manifest", _AGAIN),
    )


def _read(storage: Storage) -> Archive | None:
    data = storage.read(ARCHIVE)
    return (
        None if data is None else Archive.parsed(data, f"{storage.label}/{ARCHIVE}", "what it says of its list", _AGAIN)
    )


def _json(data: bytes, storage: Storage) -> dict[str, object]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise InputError(f"{storage.label}/{SETTINGS}: cannot be read ({error}). Remedy: another --out.") from error
    if not isinstance(content, dict):
        raise InputError(f"{storage.label}/{SETTINGS}: holds no settings. Remedy: another --out.")
    return content
