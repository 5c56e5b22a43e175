"""What a person found on drawn fields, and which of the drawn fields a table or a folder means."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from microseg.core.errors import InputError
from microseg.core.schemas.validation import SpreadTerm, ValidationField
from microseg.deploy.audit.audited import Lot
from microseg.deploy.audit.files import Draw
from microseg.deploy.report.records import FieldRecord

_LISTED = 3


@dataclass(frozen=True)
class Found:
    """What a person found.

    Attributes:
        method: whether the fields were labelled or point-counted.
        fields: the audited fields, in the order of the draw.
        auditors: who counted, where it is stated.
        annotators: how far two people differ, of their mean; None for one.
        agreement: the same in words.
        notices: what the user should know.
    """

    method: Literal["masks", "points"]
    fields: tuple[ValidationField, ...]
    auditors: tuple[str, ...] = ()
    annotators: SpreadTerm | None = None
    agreement: str | None = None
    notices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """The fields that have to be audited.

    Attributes:
        draw: the draw.
        lot: what the report found.
        title: name of the report's input: fields of one lot are told apart from those of others by it.
    """

    draw: Draw
    lot: Lot
    title: str

    @property
    def records(self) -> Mapping[str, FieldRecord]:
        """The records of the drawn fields by name, in the order of the draw."""
        by_name = {record.name: record for record in self.lot.records}
        return {field.name: by_name[field.name] for field in self.draw.fields}

    def require_all(self, option: str, given: Collection[str]) -> None:
        """Raise InputError where drawn fields are missing.

        Args:
            option: what the user gave, for the message.
            given: names of the fields that it holds.
        """
        missing = [field.name for field in self.draw.fields if field.name not in given]
        if missing:
            raise InputError(
                f"{option}: is not finished: {len(missing)} of {len(self.draw.fields)} drawn fields are missing "
                f"({listed(missing)}). Remedy: audit all drawn fields; a choice among them is not what was drawn."
            )

    def refuse_other(self, option: str, name: str, sha256: str = "") -> None:
        """Raise InputError for a field that was not drawn.

        Args:
            option: what the user gave, for the message.
            name: the field.
            sha256: SHA-256 of its file; empty where it is unknown.
        """
        record = next((each for each in self.lot.records if name == each.name or sha256 == each.sha256), None)
        if (sha256 or (record.sha256 if record else "")) in self.lot.trained:
            raise InputError(
                f"{option}: {name} trained this engine, so that it is no audit. Remedy: the drawn fields alone."
            )
        where = (
            "was not drawn: fields that are chosen by hand do not stand for the others"
            if record
            else ("is no field of this report: the audit is of another one, or of an older state of it")
        )
        raise InputError(f"{option}: {name} {where}. Remedy: the fields that `microseg audit draw` wrote, alone.")

    def audited(self, name: str, **found: object) -> ValidationField:
        """An audited field as a validation holds it."""
        record = self.records[name]
        content = {
            "name": record.name,
            "sha256": record.sha256,
            # Each field is a group, and those of another lot with the same names are others.
            "group": f"{self.title}/{record.name}",
            "pixel_size_um": record.pixel_size_um,
            "alarm": record.alarm,
        }
        return ValidationField.model_validate(content | found)


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if names[_LISTED:] else "")
