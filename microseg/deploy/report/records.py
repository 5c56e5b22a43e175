"""Records of fields in a report: one JSON file for each measured field."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from pydantic import Field, ValidationError, model_validator

from microseg.core.alarm.schema import FieldAlarm
from microseg.core.images.exclusion import artefact_reason
from microseg.core.images.scale.sidecars import sidecar_scale
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.versioned import VersionedModel
from microseg.core.statistics.astm_e562 import standard_deviation
from microseg.core.system.files import write_text, writing
from microseg.deploy.report.names import distinct_path, report_path

RECORD_VERSION = 1
_MASK_SUFFIX = ".png"


class FieldRecord(FrozenModel):
    """A measured field. Pixels are native; measured pixels are those that the crop leaves."""

    name: str = Field(description="Name of the field: its path below the input.")
    sha256: str = Field(description="SHA-256 of the micrograph's file.")
    sidecar_sha256: str = Field(
        "",
        description="SHA-256 of what texts beside the file state about its pixel size; empty where they state nothing.",
    )
    width_px: int = Field(description="Width of the micrograph, native pixels.")
    height_px: int = Field(description="Height of the micrograph, native pixels.")
    measured_width_px: int = Field(description="Width of the measured part, native pixels.")
    measured_height_px: int = Field(description="Height of the measured part, native pixels.")
    pixel_size_um: float | None = Field(
        description="Edge of a native pixel along a row, µm; null where nothing states it for this field."
    )
    pixel_height_um: float | None = Field(
        None, description="Edge of a native pixel along a column, µm; null: equal to `pixel_size_um`."
    )
    pixel_size_source: str | None = Field(None, description="Where the pixel size is stated; null where nothing is.")
    counts: list[int] = Field(description="Pixels of each phase by the bag, in the engine's order.")
    fold_counts: list[list[int]] = Field(description="Pixels of each phase by each fold, (folds, phases).")
    not_measured: dict[str, int] = Field(
        default_factory=dict, description="Native pixels inside the crop that are not measured, by reason."
    )
    notices: list[str] = Field(description="What a reader must know about the field.")
    notice_kinds: list[str] = Field(default_factory=list, description="The kind of each notice.")
    mask: str = Field(description="Path of the mask in the report.")
    overlay: str = Field(description="Path of the overlay in the report.")
    plain: str = Field(
        "",
        description="Path of the micrograph as the overlay shows it, without colours; empty in reports of earlier versions.",
    )
    preview: str = Field(
        "", description="Path of the small overlay in the report; empty in reports of earlier versions."
    )
    stage_um: tuple[float, float] | None = Field(
        None,
        description="X and Y of the stage, µm, as the file states them; null where it states none or nothing asks for it.",
    )
    marks: str = Field(
        "",
        description="Hashes of small squares of pixels, by which the same region is found in other fields, in base64.",
    )
    alarm: FieldAlarm | None = Field(
        None, description="What the engine's alarm says of the field; null where the engine holds none."
    )

    @model_validator(mode="after")
    def _counts_every_pixel(self) -> FieldRecord:
        pixels = self.measured_width_px * self.measured_height_px
        measured = pixels - sum(self.not_measured.values())
        # Each fold finds artefacts of its own.
        if not measured or sum(self.counts) != measured or any(sum(counts) > pixels for counts in self.fold_counts):
            raise ValueError("the pixels of the phases do not add up to those of the field")
        return self

    @property
    def place(self) -> str:
        """Path of the field in the report, to which folders and suffixes are added."""
        return self.mask.partition("/")[2].removesuffix(_MASK_SUFFIX)

    @property
    def measured_px(self) -> int:
        """Number of measured native pixels."""
        return sum(self.counts)

    @property
    def area_um2(self) -> float | None:
        """Measured area in square micrometres; None where the pixel size is unknown."""
        if self.pixel_size_um is None:
            return None
        return self.measured_px * self.pixel_size_um * (self.pixel_height_um or self.pixel_size_um)

    def fractions_of(self, phases: Sequence[str]) -> list[float | None]:
        """Area fraction of each of the engine's phases, 0-1; None for those that are no material.

        Args:
            phases: names of the phases, in the engine's order.
        """
        return [
            None if artefact_reason(name) in self.not_measured else fraction
            for name, fraction in zip(phases, self.fractions, strict=True)
        ]

    @property
    def fractions(self) -> list[float]:
        """Area fraction of each phase, 0-1."""
        return [count / self.measured_px for count in self.counts]

    @property
    def fold_fractions(self) -> list[list[float]]:
        """Area fraction of each phase by each fold, 0-1, (folds, phases)."""
        return [[count / (sum(counts) or 1) for count in counts] for counts in self.fold_counts]

    @cached_property
    def fold_std(self) -> list[float | None]:
        """Standard deviation of each phase's fraction over the folds, 0-1; None for one fold."""
        return [standard_deviation(column) for column in zip(*self.fold_fractions, strict=True)]


class FailedField(FrozenModel):
    """A field that cannot be measured."""

    name: str = Field(description="Name of the field: its path below the input.")
    reason: str = Field(description="Why it fails, and the remedy.")


class StoredRecord(VersionedModel):
    """A file of the folder `records/`."""

    schema_name: ClassVar[str] = "field-record"
    schema_version: ClassVar[tuple[int, int]] = (RECORD_VERSION, 3)
    version_key: ClassVar[str] = "record_version"

    record_version: int = Field(RECORD_VERSION, description="Major version of this schema.")
    field: FieldRecord = Field(description="The measured field.")
    thumbnail: str = Field(
        "", description="Small overlay, JPEG in base64, of earlier versions; now a file (`preview`)."
    )


def record_path(report: Path, place: str) -> Path:
    """Path of a record.

    Args:
        report: the report's folder.
        place: path of the field in the report (`report_paths`).
    """
    return report / "records" / f"{place}.json"


def write_record(report: Path, record: FieldRecord) -> None:
    """Write a record. The field is finished once this returns.

    Args:
        report: the report's folder.
        record: the measured field.

    Raises:
        InputError: the file cannot be written.
    """
    stored = StoredRecord(field=record)
    with writing(report):
        write_text(record_path(report, record.place), stored.model_dump_json(indent=2) + "\n")


def find_record(report: Path, name: str, path: Path, sha256: str, place: str | None = None) -> FieldRecord | None:
    """The result that an earlier run left for this content of a field.

    Args:
        report: the report's folder.
        name: the field's name.
        path: its file.
        sha256: SHA-256 of its file.
        place: path of the field in the report; None for that of a field whose name is like no other one.

    Returns:
        The record with mask and overlay on disk; else None. A damaged record counts as none, and one of a field beside
            which other texts state the pixel size now.
    """
    # Beside names that were like its own then, the field may have got its distinct path, which no other field takes.
    for each in dict.fromkeys((place or report_path(name), distinct_path(name))):
        stored = _read(record_path(report, each))
        if stored is not None and stored.field.name == name and stored.field.sha256 == sha256:
            is_same = stored.field.sidecar_sha256 == sidecar_scale(path).sha256
            return stored.field if is_same and has_pictures(report, stored.field) else None
    return None


def has_pictures(report: Path, field: FieldRecord) -> bool:
    """Whether the mask and the overlay of a measured field exist."""
    return all((report / picture).is_file() for picture in (field.mask, field.overlay))


def count_left_over(report: Path, places: Iterable[str]) -> int:
    """Number of records in other places than these."""
    known = {record_path(report, place) for place in places}
    return sum(path not in known for path in (report / "records").rglob("*.json"))


def discard(report: Path, name: str, place: str) -> None:
    """Remove the earlier results of a field. A record goes first: no incomplete result counts. Raises InputError."""
    with writing(report):
        for each in (place, *_other_places(report, name, place)):
            record_path(report, each).unlink(missing_ok=True)
            for path in (mask_path(each), overlay_path(each), plain_path(each), preview_path(each)):
                (report / path).unlink(missing_ok=True)


def _other_places(report: Path, name: str, place: str) -> Iterator[str]:
    """Where else a record of this very field is: earlier, other names were like its own, or were not."""
    for other in {report_path(name), distinct_path(name)} - {place}:
        stored = _read(record_path(report, other))
        if stored is not None and stored.field.name == name:
            yield other


def mask_path(place: str) -> str:
    """Path of a field's mask below the report; `place` is that of the field."""
    return f"masks/{place}{_MASK_SUFFIX}"


def overlay_path(place: str) -> str:
    """Path of a field's overlay below the report; `place` is that of the field."""
    return f"overlays/{place}.jpg"


def plain_path(place: str) -> str:
    """Path of a field's micrograph below the report, as its overlay shows it; `place` is that of the field."""
    return f"pictures/{place}.jpg"


def preview_path(place: str) -> str:
    """Path of a field's small overlay below the report; `place` is that of the field."""
    return f"thumbnails/{place}.jpg"


def _read(path: Path) -> StoredRecord | None:
    try:
        return StoredRecord.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return None
