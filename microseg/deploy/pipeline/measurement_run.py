"""One measurement of an input, from its settings to the written report."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microseg import __version__
from microseg.core.errors import InputError
from microseg.core.images.folders import readable
from microseg.core.preparation.field_scale import refuse_contradicting_options
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.validation import validation_beside
from microseg.core.system.files import write_bytes, write_json, write_text, writing
from microseg.deploy.measurement.sections import sections_of
from microseg.deploy.pipeline.field_pipeline import FieldPipeline
from microseg.deploy.pipeline.inputs import SegmentInput, resolve_input
from microseg.deploy.pipeline.tile_memory import TileLimits
from microseg.deploy.report.records import FailedField, FieldRecord, count_left_over, has_pictures
from microseg.deploy.report.report_sink import ReportSink
from microseg.deploy.report.settings_file import WORKBOOK, ReportSettings, begin_report, check_report, opened_by
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning.profile import SegmentConfig
from microseg.runtime import Engine

if TYPE_CHECKING:
    from microseg.deploy.measurement.reported import Claims
    from microseg.deploy.pipeline.region import Regions
    from microseg.deploy.report.alarms import ReportAlarms
    from microseg.deploy.report.summary_file import SummaryAudit

# The import for the page begins after the first tile has begun, which must not wait for it.
_FIRST_CALL_S = 0.05


@dataclass(frozen=True)
class MeasurementRun:
    """An input, how it is measured, and its report.

    Attributes:
        report: the report's folder.
        manifest: the engine's manifest.
        given: the micrographs and their preparation.
        settings: the report's settings.
        limits: tiles under way at once and their size.
        config: how the engine is run.
        regions: the regions of interest, or None.
        engine: the engine's file.
        sections: the section of each field, by the field's name.
        has_workbook: whether the report gets a workbook.
    """

    report: Path
    manifest: Manifest
    given: SegmentInput
    settings: ReportSettings
    limits: TileLimits
    config: SegmentConfig
    regions: Regions | None
    engine: Path
    sections: Mapping[str, str]
    has_workbook: bool = False

    @classmethod
    def prepare(
        cls, options: SegmentOptions, config: SegmentConfig, manifest: Manifest, report: Path, engine_sha256: str
    ) -> MeasurementRun:
        """Find the micrographs and make sure that the report fits. It writes nothing.

        Args:
            options: what the user asks for.
            config: how the engine is run.
            manifest: the engine's manifest.
            report: the report's folder.
            engine_sha256: SHA-256 of the engine's file.

        Raises:
            InputError: wrong input or settings, or a report of other settings.
        """
        refuse_contradicting_options(options.assume_engine_scale, options.require_scale)
        given = resolve_input(options.input, manifest, options.domain, options.preparation)
        limits = config.limits(manifest, options.engine.stat().st_size, options.memory_mb)
        names = [field.name for field in given.fields]
        regions = _regions(options.roi, names)
        sections = sections_of(names, given.title, options.sections)
        sizes = {field.name: field.pixel_size_um for field in given.fields if field.pixel_size_um is not None}
        settings = settings_of(options, given, sizes, (config, limits, regions), engine_sha256)
        settings = check_report(report, settings, options.decimal_comma)
        return cls(
            report=report,
            manifest=manifest,
            given=given,
            settings=settings,
            limits=limits,
            config=config,
            regions=regions,
            engine=options.engine,
            sections=sections,
        )

    def measure(
        self,
        open_engine: Callable[[], Engine],
        on_total: Callable[[int], None],
        on_advance: Callable[[float], None],
        begun: float,
    ) -> dict[str, Any]:
        """Run the pipeline and write the report.

        Args:
            open_engine: opens the engine; called when the first tile is ready.
            on_total: gets the number of fields.
            on_advance: gets fractions of a field.
            begun: start of the run by the monotonic clock, in seconds.

        Returns:
            The content of `summary.json`.

        Raises:
            InputError: the engine does not open, or the report cannot be written.
        """
        engine: Engine | None = None
        settings = self.settings

        def open_and_begin() -> Engine:
            nonlocal engine, settings
            opened = open_engine()
            try:
                settings = opened_by(settings, opened.version, self.report)
            except InputError:
                opened.close()
                raise
            engine = opened
            begin_report(self.report, settings)
            soon = threading.Timer(_FIRST_CALL_S, _import_html)
            soon.daemon = True
            soon.start()
            return engine

        sink = ReportSink(self.report, self.given, self.manifest, settings, self.regions, places=self._has_evidence)
        pipeline = FieldPipeline(
            self.given.fields, sink, self.limits, open_and_begin, on_advance, with_features=sink.is_judged
        )
        on_total(len(self.given.fields))
        pipeline.run()
        sink.finish()
        if engine is not None:
            engine.close()
        begin_report(self.report, settings)
        return self._write(settings, sink, engine, begun)

    def _write(self, settings: ReportSettings, sink: ReportSink, engine: Engine | None, begun: float) -> dict[str, Any]:
        """Write tables, page and summary. Raises InputError."""
        # Imported here: the schema and the template are slow to import. They load while the network computes.
        from microseg.deploy.report.page.html import report_html
        from microseg.deploy.report.repeated import repeated_fields
        from microseg.deploy.report.summary import Findings, summary
        from microseg.deploy.report.summary_file import SummaryRun
        from microseg.deploy.report.table import fields_csv

        outcomes = tuple(sink.outcomes[field.name] for field in self.given.fields)
        measured = [outcome for outcome in outcomes if isinstance(outcome, FieldRecord)]
        not_counted = repeated_fields(measured, self.sections)
        alarms = self._alarms([record for record in measured if record.name not in not_counted])
        claims, audit = self._audited(self._claims(outcomes, not_counted, alarms), measured, not_counted)
        findings = Findings(
            settings=settings,
            manifest=self.manifest,
            outcomes=outcomes,
            left_over=count_left_over(self.report, sink.places_taken()),
            left_out=self.given.left_out,
            sections=self.sections,
            not_counted=not_counted,
            claims=claims,
            alarms=alarms,
            audit=audit,
        )
        gone = [field.name for field in findings.measured if not has_pictures(self.report, field)]
        if gone:
            raise InputError(
                f"{self.report}: masks or overlays of {len(gone)} fields disappeared during the run ({gone[0]} ...). Remedy: "
                "repeat the same command, which measures them again."
            )
        config = self.config.runtime_config
        run = SummaryRun(
            seconds=round(time.monotonic() - begun, 3),
            fields_measured=len(findings.measured) - sink.resumed,
            fields_resumed=sink.resumed,
            runtime=f"{config.runtime} {engine.version}" if engine else None,
            provider=engine.provider if engine else None,
            threads=config.threads,
            streams=config.streams,
            profile=str(self.config.profile) if self.config.profile else None,
        )
        content = summary(findings, run, engine.runs if engine else 0).content()
        with writing(self.report):
            write_text(
                self.report / "fields.csv",
                fields_csv(
                    findings.outcomes,
                    [phase.name for phase in self.manifest.phases],
                    settings.decimal_comma,
                    findings.standing,
                ),
            )
            write_text(self.report / "report.html", report_html(findings))
            if self.has_workbook:
                from microseg.deploy.report.workbook import workbook_bytes

                write_bytes(self.report / WORKBOOK, workbook_bytes(findings))
            write_json(self.report / "summary.json", content)
        return content

    @property
    def _has_evidence(self) -> bool:
        """Whether labelled fields may stand behind the report."""
        return bool(self.manifest.validations) or validation_beside(self.engine).exists()

    def _alarms(self, records: Sequence[FieldRecord]) -> ReportAlarms | None:
        """What the engine's alarm says of the report and its sections; None where it holds none."""
        if self.manifest.alarm is None:
            return None
        from microseg.deploy.report.alarms import alarms_of

        return alarms_of(self.manifest.alarm, records, self.sections)

    def _claims(
        self,
        outcomes: Sequence[FieldRecord | FailedField],
        not_counted: Mapping[str, str],
        alarms: ReportAlarms | None,
    ) -> Claims:
        """What the report states, by the labelled fields that there are."""
        from microseg.deploy.measurement.reported import claims
        from microseg.deploy.report.claims import measured_field, sources_of

        phases = [phase.name for phase in self.manifest.phases]
        trained = {field.sha256: field for field in self.manifest.training_fields}
        by_name = {field.name: field for field in self.given.fields}
        counted = [each for each in outcomes if isinstance(each, FieldRecord) and each.name not in not_counted]
        fields = [
            measured_field(
                record, self.sections[record.name], self.given.preparation_of(by_name[record.name]), phases, trained
            )
            for record in counted
        ]
        sources = sources_of(self.engine, self.manifest, self.given.domain)
        return claims(fields, sources, None if alarms is None else alarms.verdicts)

    def _audited(
        self, claims: Claims, measured: Sequence[FieldRecord], not_counted: Mapping[str, str]
    ) -> tuple[Claims, SummaryAudit | None]:
        """What the report states with the audit that it keeps, if there is one."""
        if not (self.report / "audit" / "audit.json").is_file():
            return claims, None
        from microseg.deploy.audit.audited import Lot, with_audit
        from microseg.deploy.audit.files import read_audit

        counted = (record for record in measured if record.name not in not_counted)
        lot = Lot.of(counted, self.sections, self.manifest, self.settings.engine_sha256)
        return with_audit(claims, read_audit(self.report), lot)


def settings_of(
    options: SegmentOptions,
    given: SegmentInput,
    pixel_sizes: Mapping[str, float],
    how: tuple[SegmentConfig, TileLimits, Regions | None],
    engine_sha256: str,
) -> ReportSettings:
    """The settings of a report.

    Args:
        options: what the user asks for.
        given: the micrographs and their preparation.
        pixel_sizes: pixel sizes that are stated for single fields, µm, by name.
        how: how the engine is run, the tiles, and the regions of interest.
        engine_sha256: SHA-256 of the engine's file.
    """
    config, limits, regions = how
    return ReportSettings(
        microseg=__version__,
        input=given.title,
        engine=readable(options.engine.name),
        engine_sha256=engine_sha256,
        domain=given.domain,
        preparation=given.preparation,
        nearby=dict(given.nearby),
        regions={} if regions is None else regions.sha256,
        pixel_size_um=options.pixel_size_um,
        fallback_pixel_size_um=None if given.assumed is None else given.assumed.width_um,
        pixel_sizes=dict(pixel_sizes),
        assume_engine_scale=options.assume_engine_scale,
        require_scale=options.require_scale,
        force_scale=options.force_scale,
        max_tile_pixels=limits.max_tile_pixels,
        runtime=config.runtime_config.runtime,
        device=config.runtime_config.device,
        created=datetime.now(UTC).astimezone().date().isoformat(),
        input_path=readable(str(options.input.absolute())),
        engine_path=readable(str(options.engine.absolute())),
    )


def _regions(path: Path | None, names: list[str]) -> Regions | None:
    """The regions of interest. Raises InputError. Imported here: most runs have none."""
    if path is None:
        return None
    from microseg.deploy.pipeline.region import Regions

    return Regions.find(path, names)


def _import_html() -> None:
    """Import what the page needs while the network computes."""
    from microseg.deploy.report.page.html import load_template

    load_template()
