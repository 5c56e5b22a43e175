"""From the audited fields of a report to what it states of its sections."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.validation import ValidationField
from microseg.core.statistics.audit import (
    AuditedPhase,
    AuditSample,
    audited_fractions,
    audited_together,
    least_correlation,
)
from microseg.core.statistics.corrected import KnownUncertainty
from microseg.deploy.audit.files import Audit, state_of
from microseg.deploy.audit.fit import fit_of
from microseg.deploy.measurement.reported import Claims, Reported, Term
from microseg.deploy.report.records import FieldRecord
from microseg.deploy.report.summary_file import SummaryAudit

OLDER = (
    "the audit is of an older state of this report: its fields, sections or engine are others now. Remedy: microseg audit "
    "draw, then apply"
)


@dataclass(frozen=True)
class Lot:
    """What a report found.

    Attributes:
        records: the measured fields that count.
        sections: the section of each, by its name.
        trained: SHA-256 of the fields that the engine learned from.
        phases: names of the phases, in the engine's order.
        engine_sha256: SHA-256 of the engine's file.
    """

    records: tuple[FieldRecord, ...]
    sections: Mapping[str, str]
    trained: frozenset[str]
    phases: tuple[str, ...]
    engine_sha256: str

    @classmethod
    def of(
        cls, records: Iterable[FieldRecord], sections: Mapping[str, str], manifest: Manifest, engine_sha256: str
    ) -> Self:
        """The lot of measured fields that count, by an engine."""
        trained = frozenset(field.sha256 for field in manifest.training_fields)
        return cls(tuple(records), sections, trained, tuple(phase.name for phase in manifest.phases), engine_sha256)

    @property
    def state_sha256(self) -> str:
        """SHA-256 of what the report found."""
        return state_of(self.records, dict(self.sections), self.engine_sha256)

    @property
    def by_section(self) -> dict[str, list[FieldRecord]]:
        """The fields that can be drawn, by section: not those that the engine learned from."""
        found: dict[str, list[FieldRecord]] = {}
        for record in self.records:
            if record.sha256 not in self.trained:
                found.setdefault(self.sections.get(record.name, ""), []).append(record)
        return found


def with_audit(claims: Claims, audit: Audit, lot: Lot) -> tuple[Claims, SummaryAudit | None]:
    """What a report states with its audit. An audit of an older state changes no figure, and the report says so.

    Args:
        claims: what it states without.
        audit: the audit.
        lot: what the report found.

    Returns:
        What it states, and the audit for `summary.json` and the page; None where it does not count.
    """
    if audit.state_sha256 != lot.state_sha256:
        return _with_reason(claims, OLDER), None
    audited = {field.name: field for field in audit.fields}
    samples = {
        section: sample
        for section, records in lot.by_section.items()
        if (sample := _sample(records, audited)) is not None
    }
    known = _known(audit)
    sections = dict(claims.sections)
    for name, sample in samples.items():
        old = sections[name]
        found = audited_fractions(sample, known)
        sections[name] = replace(old, phases=_reported(found, old.phases, audit, lot.phases))
    report = claims.report
    if len(sections) == 1 and samples:
        (report,) = (section.phases for section in sections.values())
    elif samples and samples.keys() == sections.keys():
        found = audited_together(list(samples.values()), known)
        report = _reported(found, report, audit, lot.phases)
    is_audited = bool(report) and all(each.evidence == "audited" for each in report)
    stated = Claims(report, sections, None if is_audited else claims.validation)
    told = SummaryAudit(
        audit=audit.audit,
        created=audit.created,
        method=audit.method,
        fields=sum(len(sample.true) for sample in samples.values()),
        of_fields=sum(len(sample.all_found) for sample in samples.values()),
        sections=sorted(samples),
        auditors=list(audit.auditors),
        agreement=audit.agreement,
        fit=fit_of(audit.fields, lot.phases),
    )
    return stated, told


def _sample(records: Sequence[FieldRecord], audited: Mapping[str, ValidationField]) -> AuditSample | None:
    """The audited fields of a section beside all its fields; None where none was audited."""
    chosen = [(record, audited[record.name]) for record in records if record.name in audited]
    if not chosen:
        return None
    every = np.array([record.fractions for record in records], np.float64)
    found = np.array([record.fractions for record, _ in chosen], np.float64)
    # Where a part of a field is labelled, its error there stands for the field.
    error = np.array([np.subtract(field.true_fractions, field.found_fractions) for _, field in chosen], np.float64)
    points = [math.inf if field.counts is None else float(field.counts.points) for _, field in chosen]
    return AuditSample(np.clip(found + error, 0, 1), found, every, np.array(points))


def _known(audit: Audit) -> list[KnownUncertainty]:
    if audit.annotators is None:
        return []
    return [KnownUncertainty("annotators", audit.annotators.std, audit.annotators.degrees_of_freedom)]


def _reported(
    results: Sequence[AuditedPhase], old: Sequence[Reported], audit: Audit, phases: Sequence[str]
) -> tuple[Reported, ...]:
    return tuple(_phase(result, before, audit, name) for result, before, name in zip(results, old, phases, strict=True))


def _phase(result: AuditedPhase, before: Reported, audit: Audit, name: str) -> Reported:
    """A phase with its audited interval; as before the audit where that gives none."""
    how = "labelled" if audit.method == "masks" else "point-counted"
    told = f"audited: {result.drawn} of {result.fields} fields, drawn from this lot, were {how} ({audit.created[:10]})"
    if result.interval is None or result.lot_interval is None:
        return replace(before, reasons=(*before.reasons, told, f"{name}: {_WITHHELD[result.withheld or '']}"))
    low, high = result.lot_interval
    alone = f"{name}: mean of these {result.fields} fields alone {100 * low:.2f} to {100 * high:.2f} %"
    agreement = [] if audit.agreement is None else [audit.agreement]
    budget = tuple(
        Term(row.term, row.value, row.kind, row.degrees if math.isfinite(row.degrees) else None, row.share)
        for row in result.budget
    )
    reasons = (told, f"{name}: {_use_of_predictions(result)}", alone, *agreement)
    return Reported(result.fraction, result.interval, "audited", before.raw, reasons, budget)


_WITHHELD = {
    "": "the audit gives no interval",
    "one audited field": "one audited field gives no interval. Remedy: microseg audit draw with a larger --n",
    "the audited fields hold one phase alone": "all audited fields hold one phase alone, so that the audit gives no interval",
}


def _use_of_predictions(result: AuditedPhase) -> str:
    if result.weight:
        if result.correlation is None:
            return "the found fractions of all fields narrow the interval"
        return (
            f"audited and found fractions have a correlation of {result.correlation:.2f}: the found fractions of all fields "
            "narrow the interval"
        )
    if result.drawn == result.fields:
        return "every field is audited: the audited fields count alone"
    if result.correlation is None:
        return "found fractions show nothing of the audited ones: the audited fields count alone"
    least = least_correlation(result.drawn)
    limit = f"below {least:.2f}" if math.isfinite(least) else "of too few fields"
    return (
        f"audited and found fractions have a correlation of {result.correlation:.2f}, {limit}: predictions do not help, the "
        "audited fields count alone"
    )


def _with_reason(claims: Claims, reason: str) -> Claims:
    def told(phases: Sequence[Reported]) -> tuple[Reported, ...]:
        return tuple(replace(each, reasons=(*each.reasons, reason)) for each in phases)

    sections = {name: replace(section, phases=told(section.phases)) for name, section in claims.sections.items()}
    return Claims(told(claims.report), sections, claims.validation)
