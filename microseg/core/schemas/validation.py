"""The validation of an engine: labelled fields that trained nothing, and what the engine finds on them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from microseg.core.alarm.schema import FieldAlarm
from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel, PositiveFloat
from microseg.core.schemas.preparation import PixelSizeRange, Preparation
from microseg.core.schemas.versioned import VersionedModel
from microseg.core.system.files import read_at_most, write_json

VALIDATION_ENDING = ".validation.json"
# What a run folder keeps of its folds' held-out fields.
CROSS_VALIDATION_FILE = "cross_validation.json"
# A file of ten thousand fields of five phases takes a tenth of this.
MOST_BYTES = 64 << 20
MOST_FIELDS = 10_000
_WHAT, _REMEDY = "the validation", "repeat `microseg validate`"
_SHA256 = r"^[0-9a-f]{64}$"

Sha256 = Annotated[str, Field(pattern=_SHA256)]
# Sums of more pixels are no longer exact in float64.
Pixels = Annotated[int, Field(ge=0, le=2**53)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class PointCounts(FrozenModel):
    """A manual point count of a field (ASTM E562). A point on a boundary counts one half, for both phases."""

    points: int = Field(ge=1, description="Points of the grids that were laid over the field.")
    on_phase: list[Annotated[float, Field(ge=0)]] = Field(
        description="Points on each phase, in the order of the phases. Together they are `points`."
    )

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if any((2 * count) % 1 for count in self.on_phase):
            raise ValueError("counts are whole or half points")
        if sum(self.on_phase) != self.points:
            raise ValueError(f"the phases have {sum(self.on_phase):g} points together, the field has {self.points}")
        return self


class ValidationField(FrozenModel):
    """A field with labels or a point count, and what the engine finds on it. It has either `confusion` or `counts`."""

    name: str = Field(description="Path of the file below the domain folder.")
    sha256: Sha256 = Field(description="SHA-256 of the file, 64 hex digits.")
    group: str = Field(description="Specimen or spot. The unit of the small-sample correction is the group.")
    fold: int | None = Field(
        None, ge=0, description="Of a cross-validation: the fold that held the field out and found; else null."
    )
    pixel_size_um: PositiveFloat | None = Field(None, description="Edge of a native pixel, µm; null where unknown.")
    confusion: list[list[Pixels]] | None = Field(
        None,
        description="Labelled native pixels by true phase (rows) and found phase (columns); null for a point count.",
    )
    counts: PointCounts | None = Field(None, description="The manual point count; null for masks.")
    found: list[Fraction] | None = Field(
        None, description="Beside a point count: area fraction of each phase as found, 0-1; null for masks."
    )
    alarm: FieldAlarm | None = Field(
        None,
        description="What the engine's alarm says of the field; null where none looked at it, or in earlier versions.",
    )

    @model_validator(mode="after")
    def _is_one_kind(self) -> Self:
        if (self.confusion is None) == (self.counts is None) or (self.counts is None) != (self.found is None):
            raise ValueError("a field has either `confusion`, or `counts` with `found`")
        if self.confusion is not None and not any(map(sum, self.confusion)):
            raise ValueError("`confusion` counts no pixel")
        if self.found is not None and abs(sum(self.found) - 1) > 1e-6:
            raise ValueError(f"the fractions of `found` add up to {sum(self.found):.6g}, not to 1")
        return self

    @property
    def true_fractions(self) -> list[float]:
        """Fraction of each phase by the labels or by the point count, 0-1."""
        if self.counts is not None:
            return [count / self.counts.points for count in self.counts.on_phase]
        rows = [sum(row) for row in self.confusion or []]
        return [row / sum(rows) for row in rows]

    @property
    def found_fractions(self) -> list[float]:
        """Fraction of each phase as the engine finds it on the labelled pixels, or on the counted field, 0-1."""
        if self.found is not None:
            return list(self.found)
        columns = [sum(column) for column in zip(*(self.confusion or []), strict=True)]
        return [column / sum(columns) for column in columns]

    def fits(self, phases: int) -> bool:
        """Whether the field has figures for so many phases."""
        lists: list[list[Any]] = [
            *(self.confusion or []),
            self.counts.on_phase if self.counts else [],
            self.found or [],
        ]
        sizes = {len(each) for each in lists if each}
        return sizes == {phases} and (self.confusion is None or len(self.confusion) == phases)


class SpreadTerm(FrozenModel):
    """How far one measurement, or one person, is from another, for the budget of the uncertainty.

    It is the standard uncertainty of a section's mean, however many fields the section has: what a measurement or a person
    does to one field, it does to all of them (GUM, JCGM 100:2008, 5.2.2, note 1).
    """

    std: list[Annotated[float, Field(ge=0)]] = Field(
        description="Standard deviation of one of two results, for each phase, as a fraction 0-1: of a specimen's mean where "
        "specimens were measured twice, of a field where two people labelled it."
    )
    degrees_of_freedom: int = Field(ge=1, description="Degrees of freedom of the standard deviations.")


class Validation(VersionedModel):
    """`ENGINE.validation.json`, and each of `validations` of a manifest.

    `sha256` finds accidents and edits by hand. It finds no forger, who can compute it too.
    """

    schema_name: ClassVar[str] = "validation"
    schema_version: ClassVar[tuple[int, int]] = (1, 1)
    version_key: ClassVar[str] = "validation_version"

    validation_version: int = Field(1, description="Major version of this schema.")
    kind: Literal["validated", "cross-validated"] = Field(
        description="validated: the whole bag on fields that trained nothing. cross-validated: each field by the fold that "
        "held it out, which stands for the bag."
    )
    network_sha256: Sha256 | None = Field(
        None,
        description="Network that was validated: SHA-256 of an ONNX file without its metadata, or of a whole plan; null in a "
        "run folder.",
    )
    weights_sha256: list[Sha256] = Field(description="SHA-256 of the weights of each fold.")
    domain: str = Field(description="Domain of the engine that the fields were measured as.")
    preparation: Preparation = Field(description="How the fields were prepared.")
    phases: list[str] = Field(min_length=2, description="Names of the phases, in the order of their indices.")
    pixel_sizes: PixelSizeRange | None = Field(
        None, description="Native pixel sizes of the fields; null where unknown."
    )
    created: str = Field(description="Time, ISO 8601.")
    microseg: str = Field(description="Version of microseg that wrote it.")
    source: str = Field(description="Name of the folder or file of the labelled fields.")
    fields: list[ValidationField] = Field(max_length=MOST_FIELDS, description="The fields.")
    repeatability: SpreadTerm | None = Field(
        None, description="From specimens that were measured twice, each time by itself; null where not given."
    )
    annotators: SpreadTerm | None = Field(
        None, description="From fields that two people labelled, each alone; null where not given."
    )
    alarm_sha256: Sha256 | None = Field(
        None, description="SHA-256 of the calibration of the alarm that looked at the fields; null where none did."
    )
    sha256: Sha256 | None = Field(
        None, description="SHA-256 of the file's other keys as compact JSON with sorted keys; null within a manifest."
    )

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for field in self.fields:
            if not field.fits(len(self.phases)):
                raise ValueError(f"field {field.name!r}: its figures are not for {len(self.phases)} phases")
            if (self.kind == "cross-validated") != (field.fold is not None):
                raise ValueError(f"field {field.name!r}: `fold` is for cross-validations, where each field has it")
        for term in (self.repeatability, self.annotators):
            if term is not None and len(term.std) != len(self.phases):
                raise ValueError(f"standard deviations of {len(term.std)} phases, not of {len(self.phases)}")
        hashes = {field.sha256 for field in self.fields}
        if len(hashes) != len(self.fields):
            raise ValueError("one field is in it twice")
        return self


def validation_beside(engine: Path) -> Path:
    """The validation file that belongs to an engine: `bagged.validation.json` beside `bagged.onnx`."""
    return engine.with_name(engine.stem + VALIDATION_ENDING)


def read_validation_beside(engine: Path) -> Validation | None:
    """The validation file that belongs to an engine; None where there is none.

    Raises:
        InputError: as `read_validation`, or the file is a cross-validation. That of an engine is in the engine.
    """
    path = validation_beside(engine)
    if not path.exists():
        return None
    found = read_validation(path)
    if found.kind != "validated":
        raise InputError(f"{path}: is a {found.kind} file, which an engine holds itself. Remedy: microseg validate.")
    return found


def write_validation(path: Path, validation: Validation) -> None:
    """Write a validation file, atomically, with the hash of its content. Raises OSError."""
    content = validation.model_dump(mode="json", exclude={"sha256"})
    write_json(path, content | {"sha256": _content_sha256(content)})


def read_validation(path: Path, remedy: str = _REMEDY) -> Validation:
    """Read a validation file and check its hash.

    Args:
        path: the file.
        remedy: what to do where it is damaged.

    Raises:
        InputError: it cannot be read, is too large, damaged, changed after it was written, or of a newer version.
    """
    data = read_at_most(path, MOST_BYTES, remedy)
    try:
        content = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {_WHAT} is damaged ({error}). Remedy: {remedy}.") from error
    validation = Validation.checked(content, path, _WHAT, remedy)
    if validation.sha256 != _content_sha256({key: content[key] for key in content if key != "sha256"}):
        raise InputError(
            f"{path}: {_WHAT} is not the one that was written (its SHA-256 differs: edited or damaged). Remedy: {remedy}."
        )
    return validation


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _content_sha256(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
