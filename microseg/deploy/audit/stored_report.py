"""A report folder read back with all that its page says, so that it can be written again without measuring."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from microseg.core.domains.pixel_sizes import preparation_of
from microseg.core.errors import InputError
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.preparation import Preparation
from microseg.core.system.files import json_text, write_together, writing
from microseg.deploy.audit.audited import Lot, with_audit
from microseg.deploy.audit.files import Audit
from microseg.deploy.measurement.reported import claims
from microseg.deploy.report.alarms import alarms_of
from microseg.deploy.report.claims import measured_field, sources_of
from microseg.deploy.report.page.html import report_html
from microseg.deploy.report.reader import read_report
from microseg.deploy.report.records import FailedField, FieldRecord, StoredRecord, has_pictures, record_path
from microseg.deploy.report.settings_file import WORKBOOK, ReportSettings
from microseg.deploy.report.summary import Findings, summary
from microseg.deploy.report.summary_file import ReportSummary
from microseg.deploy.report.table import fields_csv, read_rows
from microseg.deploy.report.workbook import wants_workbook, workbook_bytes
from microseg.runtime import EngineFile

_AGAIN = "repeat `microseg segment`, which writes it again"


@dataclass(frozen=True)
class StoredReport:
    """A finished report.

    Attributes:
        path: its folder.
        settings: its settings.
        summary: its figures.
        outcomes: the result of each field, in the order of its table.
        sections: the section of each measured field.
        not_counted: why fields do not count though they are measured.
    """

    path: Path
    settings: ReportSettings
    summary: ReportSummary
    outcomes: tuple[FieldRecord | FailedField, ...]
    sections: dict[str, str]
    not_counted: dict[str, str]

    @property
    def counted(self) -> list[FieldRecord]:
        """The measured fields that count."""
        return [each for each in self.outcomes if isinstance(each, FieldRecord) and each.name not in self.not_counted]

    def lot(self, manifest: Manifest) -> Lot:
        """What the report found, for its audit.

        Args:
            manifest: the manifest of its engine.
        """
        return Lot.of(self.counted, self.sections, manifest, self.settings.engine_sha256)

    def preparation_of(self, record: FieldRecord) -> Preparation:
        """How a field was prepared."""
        shared = self.settings.preparation
        for source, preparation in self.settings.nearby.items():
            if any(notice.startswith(f"settings of {source}: ") for notice in record.notices):
                shared = preparation
        return preparation_of(shared, self.settings.pixel_sizes.get(record.name))

    def require_pictures(self, names: Sequence[str]) -> None:
        """Raise InputError where masks or overlays of these fields are missing."""
        by_name = {each.name: each for each in self.counted}
        gone = [name for name in names if name not in by_name or not has_pictures(self.path, by_name[name])]
        if gone:
            raise InputError(
                f"{self.path}: masks or overlays of {len(gone)} fields are missing ({gone[0]} ...). Remedy: repeat `microseg "
                "segment`, which measures them again."
            )


def stored_report(path: Path) -> StoredReport:
    """Read a finished report. Raises InputError."""
    found = read_report(path)
    settings = ReportSettings.read_json(path / "settings.json", "the settings", _AGAIN)
    outcomes: list[FieldRecord | FailedField] = []
    sections: dict[str, str] = {}
    not_counted: dict[str, str] = {}
    table = path / "fields.csv"
    try:
        for row in read_rows(table):
            name = row["field"]
            if row["status"] != "measured":
                outcomes.append(FailedField(name=name, reason=row["reason"]))
                continue
            place = row["mask"].partition("/")[2].removesuffix(".png")
            outcomes.append(_record(path, name, place))
            if "section" not in row:
                raise InputError(f"{path}: is of an earlier microseg, without sections. Remedy: {_AGAIN}.")
            sections[name] = row["section"]
            if row["counted"] != "yes":
                not_counted[name] = row["counted"].removeprefix("no: ")
    except (OSError, ValueError, KeyError, csv.Error) as error:
        raise InputError(f"{table}: cannot be read ({error}). Remedy: {_AGAIN}.") from error
    return StoredReport(path, settings, found.summary, tuple(outcomes), sections, not_counted)


def _record(report: Path, name: str, place: str) -> FieldRecord:
    path = record_path(report, place)
    if ".." in Path(place).parts or not path.is_file():
        raise InputError(f"{report}: the record of {name} is missing. Remedy: {_AGAIN}.")
    record = StoredRecord.read_json(path, "a record", _AGAIN).field
    if record.name != name:
        raise InputError(f"{path}: is the record of {record.name}, not of {name}. Remedy: {_AGAIN}.")
    # Files are written and read under these names, and a report may come from anywhere.
    if any(PurePosixPath(each).is_absolute() or ".." in PurePosixPath(each).parts for each in (name, record.place)):
        raise InputError(f"{path}: its field {name!r} lies outside of the report's input. Remedy: {_AGAIN}.")
    return record


def engine_of(report: StoredReport, moved: Path | None) -> EngineFile:
    """The engine that measured a report.

    Args:
        report: the report.
        moved: where it is now (`--engine`); None: where the report says.

    Raises:
        InputError: it is not there, or another one.
    """
    stated = moved or (Path(report.settings.engine_path) if report.settings.engine_path else None)
    if stated is None or not stated.is_file():
        where = f"{stated}: does not exist" if stated else f"{report.path}: does not say where its engine is"
        raise InputError(f"{where}. Remedy: --engine with the {report.settings.engine} that measured the report.")
    file = EngineFile(stated)
    if file.require_intact().sha256 != report.settings.engine_sha256:
        raise InputError(
            f"{stated}: is not the engine that measured {report.path} (its SHA-256 differs). Remedy: --engine with that one."
        )
    return file


def rewritten(report: StoredReport, engine: Path, manifest: Manifest, audit: Audit) -> Mapping[str, str | bytes]:
    """The files of a report with an audit in it, by name; nothing is written.

    Args:
        report: the report.
        engine: its engine's file.
        manifest: the engine's manifest.
        audit: the audit.

    Raises:
        InputError: the report's files do not fit together.
        MissingExtraError: the report has a workbook, and xlsxwriter is not installed.
    """
    findings = _findings(report, engine, manifest, audit)
    # What lay in the input and was no field is only in the notices.
    left_out = tuple(text for text in report.summary.notices if text not in findings.notices)
    findings = replace(findings, left_out=left_out)
    content = summary(findings, report.summary.run, report.summary.engine_calls)
    names = [phase.name for phase in manifest.phases]
    has_workbook = wants_workbook(report.path, asked=False)
    return {
        **({WORKBOOK: workbook_bytes(findings)} if has_workbook else {}),
        "fields.csv": fields_csv(findings.outcomes, names, report.settings.decimal_comma, findings.standing),
        "report.html": report_html(findings),
        "summary.json": json_text(content.content()),
    }


def _findings(report: StoredReport, engine: Path, manifest: Manifest, audit: Audit) -> Findings:
    records = report.counted
    phases = [phase.name for phase in manifest.phases]
    trained = {field.sha256: field for field in manifest.training_fields}
    alarms = alarms_of(manifest.alarm, records, report.sections)
    fields = [
        measured_field(record, report.sections[record.name], report.preparation_of(record), phases, trained)
        for record in records
    ]
    sources = sources_of(engine, manifest, report.settings.domain)
    known = claims(fields, sources, None if alarms is None else alarms.verdicts)
    stated, told = with_audit(known, audit, report.lot(manifest))
    own = {record_path(report.path, each.place) for each in report.outcomes if isinstance(each, FieldRecord)}
    return Findings(
        settings=report.settings,
        manifest=manifest,
        outcomes=report.outcomes,
        left_over=sum(path not in own for path in (report.path / "records").rglob("*.json")),
        claims=stated,
        sections=report.sections,
        not_counted=report.not_counted,
        alarms=alarms,
        audit=told,
    )


def write_report(report: Path, files: Mapping[str, str | bytes]) -> None:
    """Write files of a report, all or none.

    Args:
        report: its folder.
        files: their contents by name, in the order in which they replace the old ones.

    Raises:
        InputError: one cannot be written.
    """
    with writing(report):
        write_together({report / name: text for name, text in files.items()})
