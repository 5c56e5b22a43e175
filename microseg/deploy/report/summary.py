"""From records to figures: `summary.json`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from microseg.core.images.exclusion import artefact_reason
from microseg.core.images.pixel_size import ASSUMPTIONS, NO_SIZE
from microseg.core.schemas.manifest import Manifest
from microseg.core.statistics.astm_e562 import PhaseStatistics, phase_statistics
from microseg.core.system.processor import instruction_sets, saturation_notice
from microseg.deploy.measurement.reported import Claims, Reported
from microseg.deploy.report.field_notices import LISTED, grouped_notices
from microseg.deploy.report.records import FailedField, FieldRecord
from microseg.deploy.report.settings_file import ReportSettings
from microseg.deploy.report.summary_file import (
    BudgetRow,
    FieldNotice,
    FoldScore,
    FromFloat32,
    ReportSummary,
    SectionPhase,
    SummaryAlarm,
    SummaryAudit,
    SummaryEngine,
    SummaryFailure,
    SummaryFields,
    SummaryPhase,
    SummaryReported,
    SummaryRun,
    SummarySection,
    SummarySettings,
    SummaryValidation,
)
from microseg.deploy.report.table import Standing

if TYPE_CHECKING:
    from microseg.core.alarm.predict import SectionAlarm
    from microseg.deploy.report.alarms import ReportAlarms

_REPEATED = 10
# Standard deviation of a phase's fraction over the folds of a bag, 0-1. It is 0.001 to 0.013 on fields like the training fields
# and 0.1 on another etchant (microseg/docs/figures/distillation.md).
LARGE_SPREAD = 0.05


@dataclass(frozen=True)
class Facts:
    """What the notices of a report rest on.

    Attributes:
        trained: number of measured fields that trained the engine.
        spread: names of the first fields on which the folds differ, and the number of such fields.
        differs_in_size: whether the measured fields differ in size.
        differs_in_scale: whether they differ in pixel size.
        lacks_scale: whether the pixel size of a field is unknown and not even assumed.
        artefacts: pixels of each artefact, by its name.
        pixels: pixels of all measured fields, artefacts included.
    """

    trained: int
    spread: tuple[list[str], int]
    differs_in_size: bool
    differs_in_scale: bool
    lacks_scale: bool
    artefacts: Mapping[str, int]
    pixels: int


@dataclass(frozen=True)
class Findings:
    """What a report says.

    Attributes:
        settings: the report's settings.
        manifest: the engine's manifest.
        outcomes: the result of each field, in the order of the fields' names.
        left_over: number of records whose files are no longer in the input.
        claims: what is reported, and what stands behind it.
        left_out: what lies in the input and is no field, one sentence for each kind.
        sections: the section of each field, by the field's name.
        not_counted: why fields do not count though they are measured, by their names.
        alarms: what the engine's alarm says; None where it holds none.
        audit: what a person found on drawn fields; None without.
    """

    settings: ReportSettings
    manifest: Manifest
    outcomes: tuple[FieldRecord | FailedField, ...]
    left_over: int
    claims: Claims
    left_out: tuple[str, ...] = ()
    sections: Mapping[str, str] = field(default_factory=dict)
    not_counted: Mapping[str, str] = field(default_factory=dict)
    alarms: ReportAlarms | None = None
    audit: SummaryAudit | None = None

    @cached_property
    def measured(self) -> list[FieldRecord]:
        """The measured fields."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, FieldRecord)]

    @cached_property
    def counted(self) -> list[FieldRecord]:
        """The measured fields that count: of fields that show one place, the first."""
        return [record for record in self.measured if record.name not in self.not_counted]

    @cached_property
    def failed(self) -> list[FailedField]:
        """The failed fields."""
        return [outcome for outcome in self.outcomes if isinstance(outcome, FailedField)]

    @cached_property
    def phases(self) -> dict[str, PhaseStatistics]:
        """Statistics by phase name, in the engine's order."""
        return {
            phase.name: phase_statistics(
                [record.fractions[index] for record in records],
                [record.counts[index] for record in records],
                [record.measured_px for record in records],
                [[fold[index] for fold in record.fold_fractions] for record in records],
            )
            for index, phase in enumerate(self.manifest.phases)
            for records in ([] if phase.name in self.artefacts else self.counted,)
        }

    @cached_property
    def standing(self) -> dict[str, Standing]:
        """Section and evidence of each measured field, by its name."""
        found = {}
        for record in self.measured:
            section = self.sections.get(record.name, "")
            counted = self.claims.sections.get(section)
            # Of a section whose fields do not count, nothing is claimed.
            evidence = (
                ["none"] * len(self.manifest.phases) if counted is None else [each.evidence for each in counted.phases]
            )
            found[record.name] = Standing(section, self.not_counted.get(record.name), evidence)
        return found

    @cached_property
    def artefacts(self) -> frozenset[str]:
        """Names of phases that are no material: they have no fraction."""
        given = (self.settings.preparation, *self.settings.nearby.values())
        return frozenset(name for preparation in given for name in preparation.artefacts)

    @cached_property
    def area_um2(self) -> float | None:
        """Measured area of all fields, None unless every pixel size is known."""
        areas = [record.area_um2 for record in self.measured]
        known = [area for area in areas if area is not None]
        return sum(known) if known and len(known) == len(areas) else None

    @cached_property
    def pixel_size_sources(self) -> dict[str, int]:
        """Number of measured fields by the source of their pixel size, the most frequent first."""
        return dict(Counter(record.pixel_size_source or NO_SIZE for record in self.measured).most_common())

    @cached_property
    def from_float32(self) -> list[FromFloat32]:
        """What the export's gate found of an FP16 or INT8 engine, for the arithmetic of this report where the gate tried it."""
        if self.manifest.precision == "fp32":
            return []
        # A CPU computes FP16 graphs in float32; other devices round.
        rounds = self.manifest.precision == "fp16" and self.settings.device != "cpu"
        arithmetic = "rounded to fp16" if rounds else self.settings.runtime
        compared = [each for each in self.manifest.fidelity if each.arithmetic == arithmetic]
        return [
            FromFloat32(
                fields_from=each.fields_from,
                fields=len(each.fields),
                points={phase: points for phase, (points, _) in each.largest.items()},
                limits={phase: limit for phase, (_, limit) in each.largest.items()},
            )
            for each in compared or self.manifest.fidelity
        ]

    @cached_property
    def numbers(self) -> SummaryFields:
        """Numbers of fields."""
        return SummaryFields(total=len(self.outcomes), measured=len(self.measured), failed=len(self.failed))

    @cached_property
    def facts(self) -> Facts:
        """What the notices rest on."""
        trained = {field.sha256 for field in self.manifest.training_fields}
        spread = [record.name for record in self.measured if max(std or 0.0 for std in record.fold_std) > LARGE_SPREAD]
        without = [record.pixel_size_source for record in self.measured if record.pixel_size_um is None]
        return Facts(
            trained=sum(record.sha256 in trained for record in self.measured),
            spread=(spread[:LISTED], len(spread)),
            differs_in_size=len({record.measured_px for record in self.measured}) > 1,
            differs_in_scale=len({(record.pixel_size_um, record.pixel_height_um) for record in self.measured}) > 1,
            lacks_scale=any(source not in ASSUMPTIONS for source in without),
            artefacts={
                name: sum(record.not_measured.get(artefact_reason(name), 0) for record in self.measured)
                for name in self.artefacts
            },
            pixels=sum(record.measured_width_px * record.measured_height_px for record in self.measured),
        )

    @cached_property
    def notices(self) -> list[str]:
        """What a reader must know before signing the report."""
        found = []
        facts = self.facts
        if facts.trained:
            found.append(
                f"{facts.trained} of the measured fields were used to train this engine. Their fractions say nothing about its "
                "accuracy on new fields."
            )
        by_reason: dict[str, list[str]] = defaultdict(list)
        for name, why in self.not_counted.items():
            by_reason[why].append(name)
        repeated = [f"Counted once: {_listed(names)} ({why})." for why, names in by_reason.items()]
        found += repeated[:_REPEATED]
        if len(repeated) > _REPEATED:
            found.append(f"{len(self.not_counted)} fields show a place again and count once: see fields.csv.")
        quantised = self.manifest.quantisation if self.settings.device == "cpu" else None
        # Without a quantised engine the processor's flags are not read, which takes 10 ms.
        if quantised and (notice := saturation_notice(quantised, instruction_sets())):
            found.append(f"{notice[0].upper()}{notice[1:]}")
        names, number = facts.spread
        if number:
            found.append(
                f"The fractions of the bag's networks differ: standard deviation over {100 * LARGE_SPREAD:g} points on "
                f"{_listed(names, number)}. The engine may not know this material, etchant or microscope. Remedy: compare the "
                "result with labelled or point-counted fields."
            )
        if facts.differs_in_size:
            found.append(
                "The fields differ in size. In the mean each field has the same weight, in the pooled fraction each pixel."
            )
        if facts.differs_in_scale:
            found.append("The fields differ in pixel size (magnification), or some of them state none.")
        if facts.lacks_scale:
            found.append("The pixel size of at least one field is unknown. No area is stated. Remedy: --pixel-size-um.")
        if self.artefacts and facts.pixels:
            shares = [f"{name} {facts.artefacts[name] / facts.pixels:.2%}" for name in sorted(self.artefacts)]
            found.append(
                f"Artefacts leave the denominator of the fractions (share of all fields): {', '.join(shares)}."
            )
        found += self.left_out
        if self.left_over:
            found.append(
                f"The report holds {self.left_over} results of files that are no longer in the input. They do not count."
            )
        return found

    @cached_property
    def field_notices(self) -> list[FieldNotice]:
        """Notices of the measured fields by kind and text, in the order in which they first occur."""
        return grouped_notices((record.name, record.notices, record.notice_kinds) for record in self.measured)


def _listed(names: Sequence[str], number: int | None = None) -> str:
    total = len(names) if number is None else number
    return ", ".join(names[:LISTED]) + (f" and {total - LISTED} more" if total > LISTED else "")


def summary(findings: Findings, run: SummaryRun, engine_calls: int) -> ReportSummary:
    """The content of `summary.json`.

    Args:
        findings: what the report says.
        run: what this run of the command did.
        engine_calls: calls of the engine in this run.
    """
    manifest, settings, claims = findings.manifest, findings.settings, findings.claims
    return ReportSummary(
        report_version=settings.report_version,
        microseg=settings.microseg,
        created=settings.created,
        input=settings.input,
        engine=SummaryEngine(
            name=settings.engine,
            sha256=settings.engine_sha256,
            model_sha256=manifest.model_sha256,
            domain=settings.domain,
            run=manifest.provenance.run,
            recipe=manifest.provenance.recipe,
            created=manifest.provenance.created,
            folds=[FoldScore(index=fold.index, miou=fold.miou, iou=fold.iou) for fold in manifest.folds],
            precision=manifest.precision,
            from_float32=findings.from_float32,
            from_bag=manifest.distillation,
        ),
        settings=SummarySettings(**{key: getattr(settings, key) for key in SummarySettings.model_fields}),
        fields=findings.numbers,
        area_um2=findings.area_um2,
        pixel_size_sources=findings.pixel_size_sources,
        phases={
            phase.name: SummaryPhase(
                color=phase.color,
                reported=_reported(claims.report[index]),
                **asdict(findings.phases[phase.name]),
            )
            for index, phase in enumerate(manifest.phases)
        },
        sections=_sections(findings, [phase.name for phase in manifest.phases]),
        alarm=None if findings.alarms is None else alarm_of(findings.alarms.report),
        validation=_validation(claims),
        audit=findings.audit,
        failed=[SummaryFailure(field=failed.name, reason=failed.reason) for failed in findings.failed],
        notices=findings.notices,
        field_notices=findings.field_notices,
        engine_calls=engine_calls,
        run=run,
    )


def _reported(found: Reported) -> SummaryReported:
    return SummaryReported(
        fraction=found.fraction,
        interval=found.interval,
        evidence=found.evidence,
        raw=found.raw,
        reasons=found.reasons_in_file,
        budget=[BudgetRow(**asdict(term)) for term in found.budget],
    )


def alarm_of(found: SectionAlarm) -> SummaryAlarm:
    """What an alarm says, for `summary.json` and the page."""
    from microseg.deploy.report.alarms import alarm_text

    return SummaryAlarm(
        level=found.level,
        predicted_error=found.predicted_error,
        fields=dict(found.fields),
        causes=list(found.causes),
        cure=found.cure,
        text=alarm_text(found),
    )


def _sections(findings: Findings, phases: Sequence[str]) -> dict[str, SummarySection]:
    alarms = {} if findings.alarms is None else findings.alarms.sections
    return {
        name: SummarySection(
            fields=section.fields,
            alarm=alarm_of(alarms[name]) if name in alarms else None,
            phases={
                phase: SectionPhase(reported=_reported(found))
                for phase, found in zip(phases, section.phases, strict=True)
            },
        )
        for name, section in findings.claims.sections.items()
    }


def _validation(claims: Claims) -> SummaryValidation | None:
    behind = claims.validation
    if behind is None:
        return None
    return SummaryValidation(
        kind=behind.kind,
        domain=behind.domain,
        fields=len(behind.fields),
        groups=len({field.group for field in behind.fields}),
        pixel_sizes=behind.pixel_sizes,
        created=behind.created,
        sha256=behind.sha256,
    )
