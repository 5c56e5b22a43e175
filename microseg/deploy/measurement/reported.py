"""The reported fraction of each phase: corrected, with an interval where labelled fields stand behind it, or plainly raw."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import TYPE_CHECKING, Literal

from microseg.deploy.measurement.evidence import (
    NOT_VALIDATED,
    Evidence,
    Ground,
    Measured,
    Section,
    Sources,
    Verdict,
    ground_of_all,
    grounds_of,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.validation import Validation
    from microseg.core.statistics.corrected import KnownUncertainty, PhaseResult
    from microseg.core.statistics.validation_sample import ValidationSample

# How far beyond the fractions of the labelled fields a section's mean may lie, 0-1.
RANGE_MARGIN = 0.05
# Share of a report's fields whose sections may lie outside the labelled fields' range by chance.
MOST_BEYOND = 0.1
# Relative accuracy (%RA of ASTM E562) that a report says the number of fields for.
WANTED_PERCENT = 10


@dataclass(frozen=True)
class Term:
    """A row of the budget of the uncertainty (GUM, JCGM 100:2008, H.1).

    Attributes:
        term: the source of the uncertainty.
        value: its standard uncertainty, as a fraction 0-1.
        kind: A where it is evaluated by statistics of observations, else B (GUM 4.2 and 4.3).
        degrees: degrees of freedom; None for infinitely many.
        share: its share of the variance, 0-1.
    """

    term: str
    value: float
    kind: Literal["A", "B"]
    degrees: float | None
    share: float


@dataclass(frozen=True)
class Reported:
    """What is reported of one phase. Fractions are 0-1.

    Attributes:
        fraction: the corrected fraction where it is claimed, else the raw one; None without a measured field.
        interval: 95 % interval of the corrected fraction; None exactly where nothing is claimed.
        evidence: what stands behind it; "none" exactly where nothing is claimed.
        raw: mean of the fractions as found.
        reasons: what it rests on, or why nothing is claimed.
        budget: the sources of uncertainty; empty where nothing is claimed.
    """

    fraction: float | None
    interval: tuple[float, float] | None
    evidence: Evidence
    raw: float | None
    reasons: tuple[str, ...]
    budget: tuple[Term, ...] = ()

    @property
    def reasons_in_file(self) -> list[str]:
        """The reasons for a file, which has no heading: where nothing is claimed, with what the figure lacks."""
        return [*self.reasons, *([NOT_VALIDATED] if self.evidence == "none" else [])]


@dataclass(frozen=True)
class ReportedSection:
    """A section of a report.

    Attributes:
        fields: number of fields that count.
        phases: what is reported of each phase, in the engine's order.
    """

    fields: int
    phases: tuple[Reported, ...]


@dataclass(frozen=True)
class Claims:
    """What a report states.

    Attributes:
        report: what is reported of each phase over all sections.
        sections: the same for each section, by its name.
        validation: the labelled fields behind the whole report; None where nothing is claimed of it.
    """

    report: tuple[Reported, ...]
    sections: Mapping[str, ReportedSection]
    validation: Validation | None


def claims(
    fields: Sequence[Measured],
    sources: Sources,
    alarms: Mapping[str, Verdict] | None = None,
) -> Claims:
    """What is reported of a report and of its sections.

    Args:
        fields: the measured fields that count: of fields that overlap, one.
        sources: the labelled fields that may serve as evidence.
        alarms: what the alarm says of sections as a whole, by their names.
    """
    by_section: dict[str, list[Measured]] = {}
    for field in fields:
        by_section.setdefault(field.section, []).append(field)
    sections = [Section(name, tuple(each), (alarms or {}).get(name)) for name, each in by_section.items()]
    grounds = [grounds_of(section, sources) for section in sections] or [grounds_of(Section("", ()), sources)]
    phases = len(sources.manifest.phases)
    found = {
        section.name: ReportedSection(len(section.fields), _reported([section], best, sources.manifest, phases))
        for section, (best, *_) in zip(sections, grounds, strict=False)
    }
    whole = ground_of_all(grounds)
    if len(sections) == 1:
        report = found[sections[0].name].phases
    else:
        each = _reported(sections, whole, sources.manifest, phases)
        report = tuple(
            _unless_sections_lie_beyond(reported, index, found, len(fields)) for index, reported in enumerate(each)
        )
    return Claims(report, found, whole.validation)


def _unless_sections_lie_beyond(
    whole: Reported, phase: int, sections: Mapping[str, ReportedSection], fields: int
) -> Reported:
    """A phase of the whole report, without a claim where too many of its fields are of sections beyond the labelled range."""
    beyond = {
        name: section.fields
        for name, section in sections.items()
        if section.fields > 1 and section.phases[phase].evidence == "none"
    }
    if whole.evidence == "none" or sum(beyond.values()) <= MOST_BEYOND * fields:
        return whole
    of = f"{sum(beyond.values())} of {fields} fields are of sections without a claim"
    first = next(iter(beyond))
    reasons = (f"{of}, such as {first}: {sections[first].phases[phase].reasons[0]}", *whole.reasons)
    return Reported(whole.raw, None, "none", whole.raw, reasons)


def _reported(sections: Sequence[Section], ground: Ground, manifest: Manifest, phases: int) -> tuple[Reported, ...]:
    """What is reported of each phase of one section, or of several together."""
    fields = [field for section in sections for field in section.fields]
    columns = [array("d") for _ in range(phases)]
    for field in fields:
        for column, fraction in zip(columns, field.fractions, strict=True):
            if fraction is not None:
                column.append(fraction)
    raws = [fmean(column) if column else None for column in columns]
    del columns
    if ground.validation is None:
        return tuple(Reported(raw, None, "none", raw, ground.reasons) for raw in raws)
    # Imported here: nothing of it is needed where nothing is claimed.
    import numpy as np

    from microseg.core.statistics.corrected import corrected_fractions

    found = np.array([field.fractions for field in fields], np.float64)
    names = [field.section for field in fields] if len(sections) > 1 else None
    has_folds = ground.evidence == "cross-validated" and all(field.fold_fractions for field in fields)
    results = corrected_fractions(
        found,
        sample_of(ground.validation),
        # Folds found the labelled fields of a cross-validation, the bag found those of a validation.
        fold_found=_folds(fields) if has_folds else None,
        sections=names,
        known=_known(ground.validation, manifest),
    )
    return tuple(
        _claimed(result, ground, (len(fields), len(sections)), phase.name)
        for result, phase in zip(results, manifest.phases, strict=True)
    )


def _folds(fields: Sequence[Measured]) -> NDArray[np.float64]:
    """Fractions by each fold, float64 (n, F, P). Rows are filled one by one: tuples of a million fields take gigabytes."""
    import numpy as np

    first = np.array(fields[0].fold_fractions, np.float64)
    found = np.empty((len(fields), *first.shape), np.float64)
    for index, field in enumerate(fields):
        found[index] = field.fold_fractions
    return found


def _claimed(result: PhaseResult, ground: Ground, sampled: tuple[int, int], phase: str) -> Reported:
    """A phase with its interval, or raw where the labelled fields do not reach; `sampled`: numbers of fields and sections."""
    against = reason_against(result, sampled[0], phase)
    if against is not None or result.interval is None:
        return Reported(result.raw, None, "none", result.raw, (against or "", *ground.reasons))
    budget = tuple(
        Term(each.term, each.value, each.kind, each.degrees if math.isfinite(each.degrees) else None, each.share)
        for each in result.budget
    )
    more = [] if (text := more_fields(result, *sampled)) is None else [f"{phase}: {text}"]
    reasons = (*ground.reasons, f"{phase}: {_span(result)} in the labelled fields", *more)
    return Reported(result.corrected, result.interval, ground.evidence, result.raw, reasons, budget)


def reason_against(result: PhaseResult, fields: int, phase: str) -> str | None:
    """Why nothing is claimed of a phase although labelled fields stand behind it; None where it is claimed.

    A mean lies outside the labelled fields' range where it does by more than the margin and by more than its own
    uncertainty.

    Args:
        result: what the statistics say.
        fields: number of fields of the section.
        phase: name of the phase.
    """
    low, high = result.validated_range
    margin = RANGE_MARGIN
    if result.interval is not None:
        # Where the correction is uncertain, sections inside the range are found far outside of it by chance.
        margin = max(margin, (result.interval[1] - result.interval[0]) / 2)
    if fields < 2:
        return "one field gives no interval: nothing shows how far fields of the section differ"
    if not low - margin <= result.corrected <= high + margin:
        return f"{phase}: {100 * result.corrected:.1f} % in the mean lies outside the labelled fields' range ({_span(result)})"
    if result.withheld == "the labelled fields hold one phase alone":
        return f"{phase}: all labelled fields have {100 * low:.0f} % of it, so that nothing shows how the engine errs in it"
    return "too few labelled fields for an interval: they are of one group" if result.interval is None else None


def more_fields(result: PhaseResult, fields: int, sections: int) -> str | None:
    """What more fields or sections bring, in words; None for a fraction of 0 or without an interval.

    Args:
        result: what the statistics say.
        fields: number of measured fields.
        sections: number of their sections.
    """
    from microseg.core.statistics.planning import plan

    found = plan(result.budget, result.corrected, WANTED_PERCENT, fields, sections)
    if found is None:
        return None
    wanted = f"a relative accuracy of {WANTED_PERCENT} %"
    if found.needed is None:
        return (
            f"no number of {found.unit} reaches {wanted}: the other terms leave {found.limit_percent:.0f} %; "
            "more labelled fields help"
        )
    here = fields if found.unit == "fields" else sections
    is_reached = found.needed <= here
    text = f"{wanted} is reached" if is_reached else f"{wanted} takes {found.needed} {found.unit} in all"
    if found.enough is None:
        return text
    if found.enough <= here:
        return f"{text}; more {found.unit} hardly help, as the other terms dominate"
    return f"{text}; beyond {found.enough} {found.unit} more hardly help, as the other terms dominate"


def _span(result: PhaseResult) -> str:
    low, high = result.validated_range
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def sample_of(validation: Validation) -> ValidationSample:
    """The labelled fields of a validation, as the statistics read them."""
    import numpy as np

    from microseg.core.statistics.validation_sample import from_confusions, from_point_counts, joined

    masks = [field for field in validation.fields if field.confusion is not None]
    counted = [field for field in validation.fields if field.counts is not None]
    samples = []
    if masks:
        confusions = np.array([field.confusion for field in masks], np.int64)
        samples.append(from_confusions(confusions, [field.group for field in masks]))
    if counted:
        on_phase = np.array([field.counts.on_phase for field in counted if field.counts], np.float64)
        points = np.array([field.counts.points for field in counted if field.counts], np.float64)
        found = np.array([field.found_fractions for field in counted], np.float64)
        samples.append(from_point_counts(on_phase, points, found, [field.group for field in counted]))
    sample = samples[0] if len(samples) == 1 else joined(samples)
    return replace(sample, at_home=validation.kind == "cross-validated")


def _known(validation: Validation, manifest: Manifest) -> list[KnownUncertainty]:
    """Terms that labelled fields do not show."""
    from microseg.core.statistics.corrected import KnownUncertainty

    terms = [
        KnownUncertainty(name, term.std, term.degrees_of_freedom)
        for name, term in (("repeatability", validation.repeatability), ("annotators", validation.annotators))
        if term is not None
    ]
    names = [phase.name for phase in manifest.phases]
    plan = manifest.plan
    if plan is not None and plan.comparison is not None and validation.network_sha256 != manifest.network_sha256:
        beside = _uniform(plan.comparison.fraction_difference_points, names)
        terms.append(KnownUncertainty("plan beside its ONNX file", beside))
    if validation.kind == "validated":
        return terms
    # A cross-validation is of the float32 bag. Only the largest difference from it is known: half the width of a uniform
    # distribution (GUM 4.3.7).
    if manifest.distillation is not None:
        terms.append(KnownUncertainty("student beside its bag", _uniform(manifest.distillation.points, names)))
    if manifest.fidelity:
        worst: dict[str, float] = {}
        for each in manifest.fidelity:
            for name, (points, _) in each.largest.items():
                worst[name] = max(worst.get(name, 0.0), points)
        engine = "exported engine" if manifest.precision == "fp32" else f"{manifest.precision} engine"
        terms.append(KnownUncertainty(f"{engine} beside the trained networks", _uniform(worst, names)))
    return terms


def _uniform(points: Mapping[str, float], names: Sequence[str]) -> list[float]:
    """Standard uncertainty, 0-1, of each phase whose largest difference in percentage points is known."""
    return [points.get(name, 0.0) / 100 / math.sqrt(3) for name in names]
