"""Audited fields in the validation file of an engine: what one lot shows is evidence for the next."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from microseg.core.errors import InputError
from microseg.core.evaluation.validating import new_validation
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import PixelSizeRange
from microseg.core.schemas.validation import Validation, read_validation, validation_beside, write_validation
from microseg.core.system.targets import resolved
from microseg.deploy.audit.files import Audit
from microseg.deploy.audit.stored_report import StoredReport

# What the network sees of a preparation.
_SEEN = ("invert", "intensity", "artefacts", "tone")


def appended(
    engine: Path, manifest: Manifest, report: StoredReport, audit: Audit
) -> tuple[Validation | None, str | None]:
    """The validation of an engine with the audited fields in it. A field that it has already is replaced. Nothing is written.

    Args:
        engine: the engine's file.
        manifest: its manifest.
        report: the report.
        audit: the audit.

    Returns:
        The validation, or None and why the fields do not belong in the one that is there.
    """
    names = {field.name for field in audit.fields}
    # Fields may have the settings of a domain.yaml near them. Cut off edges and pixel sizes may differ.
    preparations = [report.preparation_of(record) for record in report.counted if record.name in names]
    for key in _SEEN:
        if any(getattr(each, key) != getattr(preparations[0], key) for each in preparations):
            return None, f"they were prepared with several settings of `{key}`"
    new = new_validation(
        "validated",
        audit.fields,
        domain=report.settings.domain,
        preparation=preparations[0].model_copy(update={"pixel_size_um": None}),
        phases=manifest.phases,
        weights_sha256=[fold.weights_sha256 for fold in manifest.folds],
        network_sha256=manifest.network_sha256,
        source=report.settings.input,
        annotators=audit.annotators,
        alarm_sha256=_alarm(manifest, audit),
    )
    beside = validation_beside(engine)
    if not beside.exists():
        return new, None
    try:
        old = read_validation(beside)
    except InputError as error:
        return None, str(error)
    if why := _against(old, new):
        return None, f"{beside.name} {why}. Remedy: move it away, then apply again"
    own = {field.sha256 for field in new.fields}
    fields = [*(field for field in old.fields if field.sha256 not in own), *new.fields]
    edges = [field.pixel_size_um for field in fields]
    known = [edge for edge in edges if edge is not None]
    changes = {
        "fields": fields,
        "pixel_sizes": PixelSizeRange.spanning(*known) if known and len(known) == len(edges) else None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "microseg": new.microseg,
        "annotators": new.annotators or old.annotators,
        "alarm_sha256": new.alarm_sha256 if old.alarm_sha256 == new.alarm_sha256 else None,
    }
    return old.model_copy(update=changes), None


def append(engine: Path, validation: Validation) -> tuple[Path | None, str | None]:
    """Write a validation beside its engine. The report is audited also where that fails.

    Returns:
        The file, or None and why it could not be written.
    """
    path = resolved(validation_beside(engine))
    try:
        write_validation(path, validation)
    except OSError as error:
        return None, f"{path}: cannot be written ({error.strerror or error})"
    return path, None


def _alarm(manifest: Manifest, audit: Audit) -> str | None:
    """SHA-256 of the calibration of the alarm that looked at the fields."""
    return manifest.alarm.sha256 if manifest.alarm and any(field.alarm for field in audit.fields) else None


def _against(old: Validation, new: Validation) -> str | None:
    """Why fields do not belong in a validation file."""
    if old.network_sha256 != new.network_sha256 or old.kind != new.kind:
        return "is of another engine"
    if old.domain != new.domain:
        return f"is of the domain {old.domain!r}"
    if old.phases != new.phases:
        return "is of other phases"
    if any(getattr(old.preparation, key) != getattr(new.preparation, key) for key in _SEEN):
        return "is of fields that were prepared otherwise"
    return None
