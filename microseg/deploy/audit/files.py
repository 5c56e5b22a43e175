"""What a report keeps of its audit: `audit/draw.json`, the drawn fields, and `audit/audit.json`, what was found on them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.validation import Sha256, SpreadTerm, ValidationField
from microseg.core.schemas.versioned import VersionedModel
from microseg.core.system.files import json_text, write_json
from microseg.deploy.report.records import FieldRecord

FOLDER = "audit"
_DRAW, _AUDIT = "draw.json", "audit.json"


class DrawnField(FrozenModel):
    """A field that was drawn."""

    name: str = Field(description="Name of the field in the report.")
    sha256: Sha256 = Field(description="SHA-256 of the micrograph's file.")
    section: str = Field(description="Its section.")
    points: int = Field(ge=1, description="Points of its grid.")


class Draw(VersionedModel):
    """`audit/draw.json` of a report."""

    schema_name: ClassVar[str] = "audit-draw"
    schema_version: ClassVar[tuple[int, int]] = (1, 0)
    version_key: ClassVar[str] = "draw_version"

    draw_version: int = Field(1, description="Major version of this schema.")
    audit: str = Field(pattern="^[0-9a-f]{16}$", description="Identity of the draw, which counts repeat.")
    method: Literal["systematic"] = Field(
        "systematic", description="systematic: a list ordered by found fraction, a random start, equal chances."
    )
    seed: int = Field(ge=0, description="Seed of the random start and of the grids.")
    created: str = Field(description="Time, ISO 8601.")
    state_sha256: Sha256 = Field(description="SHA-256 of what the report found when the fields were drawn.")
    sections: dict[str, int] = Field(description="Number of fields of each section that could be drawn.")
    fields: list[DrawnField] = Field(min_length=1, max_length=10_000, description="The drawn fields, in random order.")


class Audit(VersionedModel):
    """`audit/audit.json` of a report: what a person found on the drawn fields."""

    schema_name: ClassVar[str] = "audit"
    schema_version: ClassVar[tuple[int, int]] = (1, 0)
    version_key: ClassVar[str] = "audit_version"

    audit_version: int = Field(1, description="Major version of this schema.")
    audit: str = Field(pattern="^[0-9a-f]{16}$", description="Identity of the draw.")
    state_sha256: Sha256 = Field(description="SHA-256 of what the report found, as in the draw.")
    created: str = Field(description="Time, ISO 8601.")
    method: Literal["masks", "points"] = Field(description="Whether the fields were labelled or point-counted.")
    auditors: list[str] = Field(description="Who counted, as the counts state it.")
    fields: list[ValidationField] = Field(min_length=1, description="The audited fields.")
    annotators: SpreadTerm | None = Field(
        None, description="How far two people who counted differ, of their mean; null for one."
    )
    agreement: str | None = Field(None, description="How far two people agree, in words; null for one.")


def read_draw(report: Path) -> Draw:
    """The draw that a report keeps. Raises InputError."""
    path = report / FOLDER / _DRAW
    if not path.is_file():
        raise InputError(f"{report}: no fields were drawn. Remedy: microseg audit draw {report}")
    return Draw.read_json(path, "the draw", "draw again: microseg audit draw")


def write_draw(report: Path, draw: Draw) -> None:
    """Keep a draw. An audit of an earlier one goes. Raises OSError."""
    write_json(report / FOLDER / _DRAW, draw.model_dump(mode="json"))
    (report / FOLDER / _AUDIT).unlink(missing_ok=True)


def has_audit(report: Path) -> bool:
    """Whether a report keeps an audit."""
    return (report / FOLDER / _AUDIT).is_file()


def read_audit(report: Path) -> Audit:
    """The audit that a report keeps. Raises InputError."""
    return Audit.read_json(report / FOLDER / _AUDIT, "the audit", "microseg audit apply again")


def audit_file(audit: Audit) -> tuple[str, str]:
    """The file that keeps an audit: its name in the report, and its text."""
    return f"{FOLDER}/{_AUDIT}", json_text(audit.model_dump(mode="json"))


def state_of(records: Sequence[FieldRecord], sections: dict[str, str], engine_sha256: str) -> str:
    """SHA-256 of what a report found: it changes with every field, count, section, and with the engine.

    Args:
        records: the fields that count.
        sections: the section of each field.
        engine_sha256: SHA-256 of the engine's file.
    """
    found = sorted((each.name, each.sha256, sections.get(each.name, ""), each.counts) for each in records)
    text = json.dumps([engine_sha256, found], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
