"""The report folder on disk: what it was made with, and one record per measured field."""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError, model_validator

from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.preparation import Preparation
from microseg.core.system.files import write_json, write_text
from microseg.deploy.report.names import report_path

REPORT_VERSION = 1
NOT_MEASURED = 255
"""Mask value of native pixels that the crop left out (the data bar)."""

_SETTINGS = "settings.json"
_PART = re.compile(r"\.(\d+)\.part$")
_TUNED = {"runtime", "device", "max_tile_pixels"}
_FULL = (errno.ENOSPC, errno.EDQUOT)


class ReportSettings(FrozenModel):
    """`settings.json`: all that decides the figures of a report. A report is only continued with equal settings.

    max_tile_pixels: what the memory limit allows a tile; it decides the tile plan. runtime_version: known once the engine
    is open, and compared then (`opened_by`). `created` is the day of the first run and is not compared.
    """

    report_version: int = REPORT_VERSION
    microseg: str
    input: str
    engine: str
    engine_sha256: str
    domain: str
    preparation: Preparation
    pixel_size_um: float | None
    fallback_pixel_size_um: float | None
    max_tile_pixels: int
    runtime: str
    device: str
    runtime_version: str | None = None
    created: str


class FieldRecord(FrozenModel):
    """A measured field. Pixels are native; `measured` ones are those that the crop left.

    counts: pixels per phase. fold_counts: the same by each fold alone. mask, overlay: paths in the report.
    """

    name: str
    sha256: str
    width_px: int
    height_px: int
    measured_width_px: int
    measured_height_px: int
    pixel_size_um: float | None
    counts: list[int]
    fold_counts: list[list[int]]
    notices: list[str]
    mask: str
    overlay: str

    @model_validator(mode="after")
    def _counts_every_pixel(self) -> FieldRecord:
        pixels = self.measured_width_px * self.measured_height_px
        if not pixels or any(sum(counts) != pixels for counts in (self.counts, *self.fold_counts)):
            raise ValueError("the phases' pixels are not those of the field")
        return self

    @property
    def measured_px(self) -> int:
        """Native pixels measured."""
        return sum(self.counts)

    @property
    def area_um2(self) -> float | None:
        """Measured area in square micrometres, if the pixel size is known."""
        return None if self.pixel_size_um is None else self.measured_px * self.pixel_size_um**2

    @property
    def fractions(self) -> list[float]:
        """Area fraction of every phase, 0-1."""
        return [count / self.measured_px for count in self.counts]

    @property
    def fold_fractions(self) -> list[list[float]]:
        """Area fractions of every phase by every fold, (folds, phases)."""
        return [[count / self.measured_px for count in counts] for counts in self.fold_counts]


class FailedField(FrozenModel):
    """A field that could not be measured, and why."""

    name: str
    reason: str


class _StoredRecord(BaseModel):
    field: FieldRecord
    thumbnail: str


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what the file system raises while `path` is written into an InputError that says what to do."""
    try:
        yield
    except OSError as error:
        where = _PART.sub("", str(error.filename2 or error.filename or path))
        if error.errno in _FULL:
            raise InputError(
                f"{where}: the disk is full. What was finished is complete. Remedy: free some space, then repeat the "
                "same command."
            ) from error
        raise InputError(
            f"{where}: cannot be written ({error.strerror or error}). Remedy: check its rights, or take another place."
        ) from error


def check_report(report: Path, settings: ReportSettings) -> ReportSettings:
    """Make sure that `report` is absent, empty, or a report with these very settings; return those it holds.

    Raises InputError otherwise: results of different engines or settings are never mixed.
    """
    if report.exists() and not report.is_dir():
        raise InputError(f"{report}: is a file. Remedy: another --out.")
    if not report.is_dir() or all(_PART.search(entry.name) for entry in report.iterdir()):
        return settings
    if not (report / _SETTINGS).is_file():
        raise InputError(f"{report}: is not empty and no report of `microseg segment`. Remedy: another --out.")
    try:
        content = json.loads((report / _SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{report / _SETTINGS}: cannot be read ({error}). Remedy: another --out.") from error
    if not isinstance(content, dict):
        raise InputError(f"{report / _SETTINGS}: holds no settings. Remedy: another --out.")
    wanted = settings.model_dump(mode="json")
    later = {"created", "runtime_version"}
    differing = sorted(key for key in wanted.keys() - later if content.get(key) != wanted[key])
    if differing:
        # What `tune` settles may have changed under the same command.
        tuned = (
            "--no-profile if it is older than a profile, the options it was made with, "
            if set(differing) <= _TUNED
            else ""
        )
        raise InputError(
            f"{report}: was made with other settings, and a report never mixes them:\n"
            + "".join(f"  {key}: {_shown(content.get(key))} there, {_shown(wanted[key])} now\n" for key in differing)
            + f"Remedy: {tuned}another --out, or delete that report."
        )
    return settings.model_copy(update={key: content.get(key) for key in later})


def opened_by(settings: ReportSettings, version: str, report: Path) -> ReportSettings:
    """The settings with the runtime's version; without, where a report has results of one that it does not name.

    Raises InputError where the report was begun by another one.
    """
    if settings.runtime_version is None and any((report / "records").rglob("*.json")):
        return settings
    if settings.runtime_version not in (None, version):
        raise InputError(
            f"{report}: was begun by {settings.runtime} {settings.runtime_version}, this is {version}; a report never mixes "
            "them. Remedy: another --out, or delete that report."
        )
    return settings.model_copy(update={"runtime_version": version})


def begin_report(report: Path, settings: ReportSettings) -> None:
    """Create the folder, or take it up again: temporary files that a killed run left are removed. Raises InputError."""
    with writing(report):
        report.mkdir(parents=True, exist_ok=True)
        for path in report.rglob("*.part"):
            if (found := _PART.search(path.name)) and not _is_anothers(int(found[1])):
                path.unlink(missing_ok=True)
        content = settings.model_dump(mode="json")
        if not (report / _SETTINGS).is_file() or json.loads((report / _SETTINGS).read_text("utf-8")) != content:
            write_json(report / _SETTINGS, content)


def _is_anothers(process: int) -> bool:
    """Whether a file is still written, by another run into this report; known where /proc tells of processes."""
    return process != os.getpid() and Path("/proc", str(process)).exists()


def record_path(report: Path, name: str) -> Path:
    """Where the record of the field `name` is kept."""
    return report / "records" / f"{report_path(name)}.json"


def write_record(report: Path, record: FieldRecord, thumbnail: str) -> None:
    """Store a record; `thumbnail` is a small JPEG in base64. The field is done once this returns. Raises InputError."""
    stored = _StoredRecord(field=record, thumbnail=thumbnail)
    with writing(report):
        write_text(record_path(report, record.name), stored.model_dump_json(indent=2) + "\n")


def find_record(report: Path, name: str, sha256: str) -> FieldRecord | None:
    """The record of the field `name` if it was made from this content and its pictures are still there."""
    stored = _read(record_path(report, name))
    if stored is None or stored.field.name != name or stored.field.sha256 != sha256:
        return None
    return stored.field if has_pictures(report, stored.field) else None


def has_pictures(report: Path, field: FieldRecord) -> bool:
    """Whether mask and overlay of a measured field are there."""
    return all((report / picture).is_file() for picture in (field.mask, field.overlay))


def count_left_over(report: Path, names: Iterable[str]) -> int:
    """How many records are of fields other than `names`."""
    known = {record_path(report, name) for name in names}
    return sum(path not in known for path in (report / "records").rglob("*.json"))


def read_thumbnail(report: Path, name: str) -> str | None:
    """The thumbnail of a measured field, JPEG in base64."""
    stored = _read(record_path(report, name))
    return None if stored is None else stored.thumbnail


def discard(report: Path, name: str) -> None:
    """Remove what an earlier content of the field `name` left: record first, so that it is never half there."""
    with writing(report):
        record_path(report, name).unlink(missing_ok=True)
        for path in (mask_path(name), overlay_path(name)):
            (report / path).unlink(missing_ok=True)


def mask_path(name: str) -> str:
    """Path of a field's mask in the report."""
    return f"masks/{report_path(name)}.png"


def overlay_path(name: str) -> str:
    """Path of a field's overlay in the report."""
    return f"overlays/{report_path(name)}.jpg"


def _read(path: Path) -> _StoredRecord | None:
    try:
        return _StoredRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
