"""`microseg audit apply REPORT`: what a person found on the drawn fields becomes the report's evidence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from microseg.core.errors import InputError
from microseg.core.schemas.manifest import Manifest
from microseg.core.system.files import sha256_of
from microseg.deploy.audit.counts import by_counts
from microseg.deploy.audit.draw import file_of, measured_input
from microseg.deploy.audit.files import Audit, audit_file, read_draw
from microseg.deploy.audit.found import Found, Wanted
from microseg.deploy.audit.label_folder import IMAGES
from microseg.deploy.audit.masks import by_masks
from microseg.deploy.audit.stored_report import (
    StoredReport,
    engine_of,
    rewritten,
    stored_report,
    write_report,
)
from microseg.deploy.audit.validation_file import append, appended
from microseg.deploy.audit.writable import require_writable_report
from microseg.deploy.report.reader import read_report
from microseg.deploy.report.records import FieldRecord


@dataclass(frozen=True)
class ApplyOptions:
    """What the user of `audit apply` asks for.

    Attributes:
        report: the report's folder.
        masks: labels of the drawn fields; None for counts.
        counts: point counts of one person, or of two; empty for masks.
        images: where the measured files are now; None: where the report says.
        engine: where the engine is now; None: where the report says.
    """

    report: Path
    masks: Path | None = None
    counts: Sequence[Path] = ()
    images: Path | None = None
    engine: Path | None = None


@dataclass(frozen=True)
class Applied:
    """What was done.

    Attributes:
        summary: the content of the report's new `summary.json`.
        audit: the audit that the report keeps.
        validation: the validation file that has the fields now; None where they were not added.
        notices: what the user should know.
    """

    summary: dict[str, Any]
    audit: Audit
    validation: Path | None
    notices: tuple[str, ...]


def apply_audit(options: ApplyOptions, progress: Callable[[str], None] = lambda name: None) -> Applied:
    """Read what a person found, write the report again, and add the fields to the engine's validation.

    Args:
        options: report, and labels or counts.
        progress: gets the name of each field whose labels are read.

    Raises:
        InputError: no draw, an audit of another report or of an older state, labels or counts that are not finished or do not
            fit, two people who disagree strongly, or a report that cannot be written. Nothing is changed.
    """
    if (options.masks is None) == (not options.counts):
        raise InputError("audit apply: needs --masks or --counts. Remedy: one of them.")
    report = stored_report(options.report)
    draw = read_draw(options.report)
    file = engine_of(report, options.engine)
    manifest = file.manifest
    lot = report.lot(manifest)
    if draw.state_sha256 != lot.state_sha256:
        raise InputError(
            f"{options.report}: its draw is of an older state of it, or of another report: fields, sections or engine are "
            f"others now. Remedy: microseg audit draw {options.report}"
        )
    require_writable_report(options.report)
    wanted = Wanted(draw, lot, report.settings.input)
    report.require_pictures(list(wanted.records))
    found = _found(options, wanted, report, manifest, progress)
    audit = Audit(
        audit=draw.audit,
        state_sha256=draw.state_sha256,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        method=found.method,
        auditors=list(found.auditors),
        fields=list(found.fields),
        annotators=found.annotators,
        agreement=found.agreement,
    )
    files = rewritten(report, file.path, manifest, audit)
    validation, against = appended(file.path, manifest, report, audit)
    # The audit first: no moment has a report that states more than it keeps.
    name, text = audit_file(audit)
    write_report(options.report, {name: text, **files})
    notices = list(found.notices)
    path = None
    if validation is not None:
        path, against = append(file.path, validation)
    if against is not None:
        notices.append(f"the fields were not added to the engine's validation: {against}")
    return Applied(read_report(options.report).summary.content(), audit, path, tuple(notices))


def _found(
    options: ApplyOptions,
    wanted: Wanted,
    report: StoredReport,
    manifest: Manifest,
    progress: Callable[[str], None],
) -> Found:
    if options.counts:
        return by_counts(options.counts, wanted)
    folder = options.masks
    assert folder is not None

    def image_of(record: FieldRecord) -> Path:
        beside = folder.absolute().parent / IMAGES / record.name
        if beside.is_file() and sha256_of(beside) == record.sha256:
            return beside
        return file_of(record, measured_input(report, manifest, options.images))

    return by_masks(folder, wanted, report, list(manifest.phases), image_of, progress)
