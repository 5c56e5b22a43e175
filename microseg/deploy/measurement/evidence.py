"""What may be claimed of a section's fractions: by which labelled fields, and why not.

Nothing here needs the statistics, so a report without evidence does not load them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

from microseg.core.schemas.preparation import PixelSizeRange, Preparation
from microseg.deploy.measurement.alarm_says import alarm_says, some_of

if TYPE_CHECKING:
    from microseg.core.alarm.schema import FieldAlarm
    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.validation import Validation

Evidence = Literal["audited", "validated", "cross-validated", "none"]
NOT_VALIDATED = "not validated; the sampling interval (E562) does not cover errors of the network"
# What a report says in place of the alarm where there is none.
NOT_JUDGED = "none looked at these fields, so that nothing shows whether they are like the labelled ones"
# A calibration of the magnification is good to a few per cent. Beyond this a pixel shows another resolution.
SCALE_TOLERANCE = 1.1
# Keys of a preparation that change what the network sees.
_SEEN = ("invert", "intensity", "artefacts", "tone")


@dataclass(frozen=True)
class Verdict:
    """What an alarm says of a section.

    Attributes:
        level: "known" where the engine is at home; otherwise the alarm is raised.
        text: the likely cause and the cure, in words.
    """

    level: Literal["known", "doubtful", "foreign"]
    text: str

    @property
    def is_raised(self) -> bool:
        """Whether there is an alarm."""
        return self.level != "known"


class Measured(Protocol):
    """A measured field, as far as it decides about evidence: `MeasuredField`, or a row of a table."""

    @property
    def section(self) -> str:
        """Its section."""
        ...

    @property
    def fractions(self) -> tuple[float | None, ...]:
        """Area fraction of each phase, 0-1, in the engine's order; None for artefacts."""
        ...

    @property
    def preparation(self) -> Preparation:
        """How it was prepared."""
        ...

    @property
    def edges_um(self) -> tuple[float, ...]:
        """Edges of a native pixel, µm; empty where nothing states them."""
        ...

    @property
    def is_scale_assumed(self) -> bool:
        """Whether its pixel size is only assumed."""
        ...

    @property
    def is_trained(self) -> bool:
        """Whether the engine learned from this very file."""
        ...

    @property
    def alarm(self) -> FieldAlarm | None:
        """What the alarm measures of it; None where no alarm looked at it."""
        ...

    @property
    def fold_fractions(self) -> tuple[tuple[float, ...], ...]:
        """Area fractions by each fold, 0-1; empty where they are not known or there are artefacts."""
        ...


@dataclass(frozen=True)
class MeasuredField:
    """A measured field, as far as it decides about evidence.

    Attributes:
        name: name of the field.
        section: its section.
        fractions: area fraction of each phase, 0-1, in the engine's order; None for artefacts.
        preparation: how it was prepared.
        edges_um: edges of a native pixel, µm; empty where nothing states them.
        is_scale_assumed: whether its pixel size is only assumed.
        is_trained: whether the engine learned from this very file.
        alarm: what the alarm measures of it; None where no alarm looked at it.
        fold_fractions: area fractions by each fold, 0-1; empty where they are not known or there are artefacts.
    """

    name: str
    section: str
    fractions: tuple[float | None, ...]
    preparation: Preparation
    edges_um: tuple[float, ...] = ()
    is_scale_assumed: bool = False
    is_trained: bool = False
    alarm: FieldAlarm | None = None
    fold_fractions: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class Section:
    """The fields of a section that count, in their order.

    Attributes:
        name: its name.
        fields: the fields.
        alarm: what the alarm says of the section as a whole.
    """

    name: str
    fields: tuple[Measured, ...]
    alarm: Verdict | None = None


@dataclass(frozen=True)
class Sources:
    """The labelled fields that may serve as evidence.

    Attributes:
        manifest: the engine's manifest.
        domain: the domain of the engine that is measured.
        validations: the validation beside the engine first, then those of the manifest.
        refused: why the file beside the engine is none of them, if there is one.
    """

    manifest: Manifest
    domain: str
    validations: tuple[Validation, ...]
    refused: str | None = None


@dataclass(frozen=True)
class Ground:
    """What a section's figures rest on.

    Attributes:
        evidence: the kind.
        validation: the labelled fields; None where nothing is claimed.
        reasons: what it rests on, or why nothing is claimed, in words.
    """

    evidence: Evidence
    validation: Validation | None
    reasons: tuple[str, ...]


def grounds_of(section: Section, sources: Sources) -> tuple[Ground, ...]:
    """What a section's figures can rest on, the best first: a validation goes before a cross-validation.

    Args:
        section: the fields of the section.
        sources: the labelled fields that may serve.

    Returns:
        At least one; a single one of the evidence "none" where there is nothing.
    """
    against: list[str] = [sources.refused] if sources.refused else []
    if not section.fields:
        return (Ground("none", None, ("no field was measured",)),)
    if own := _against_section(section):
        return (Ground("none", None, (*against, *own)),)
    found = []
    for validation in sorted(sources.validations, key=lambda each: each.kind != "validated"):
        reasons = [*_against_validation(validation, sources), *_against_fields(section, validation, sources)]
        alarm = alarm_says(section, validation, sources)
        if not reasons and not alarm.withdraws:
            adapted = _adapted_to(validation, sources.manifest)
            reasons = [told(validation), *adapted, *alarm.reasons, *against]
            found.append(Ground(validation.kind, validation, tuple(reasons)))
            continue
        reasons += alarm.reasons if alarm.withdraws else ()
        against += [f"{_title(validation)}: {reason}" for reason in reasons]
    if found:
        return tuple(found)
    if not any(each.kind == "cross-validated" for each in sources.validations):
        against.append(_no_cross_validation(sources.manifest, sources.domain))
    return (Ground("none", None, tuple(dict.fromkeys(against))),)


def ground_of_all(sections: Sequence[Sequence[Ground]]) -> Ground:
    """What several sections together rest on: the best labelled fields that serve every one of them.

    Args:
        sections: what each section can rest on, the best first.
    """
    without = [grounds[0] for grounds in sections if grounds[0].validation is None]
    if without:
        return Ground("none", None, _joined(without))
    for first in sections[0]:
        same = [ground for grounds in sections for ground in grounds if ground.validation is first.validation]
        if len(same) == len(sections):
            return replace(first, reasons=_joined(same))
    kinds = ", ".join(dict.fromkeys(grounds[0].evidence for grounds in sections))
    return Ground(
        "none", None, (f"its sections rest on different labelled fields ({kinds}): each has figures of its own",)
    )


def _joined(grounds: Sequence[Ground]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reason for ground in grounds for reason in ground.reasons))


def told(validation: Validation) -> str:
    """What a validation is, in words."""
    number = len(validation.fields)
    groups = len({field.group for field in validation.fields})
    fields = f"{number} field{'s' * (number != 1)} of {groups} group{'s' * (groups != 1)}"
    if validation.kind == "cross-validated":
        return f"cross-validated on {fields}, each by the fold that did not learn from it, which stands for the bag"
    counted = sum(field.counts is not None for field in validation.fields)
    how = "labelled" if not counted else "point-counted" if counted == number else "labelled or point-counted"
    return f"validated on {fields} that trained nothing ({how}, {validation.created[:10]})"


def too_few(validation: Validation) -> str | None:
    """Why labelled fields are too few for any claim; None where they are not."""
    if len(validation.fields) < 2:
        return "one field does not show how far the error varies. Remedy: at least two labelled fields"
    if len({field.group for field in validation.fields}) < 2:
        return "all its fields are of one group. Remedy: labelled fields of at least two specimens or spots"
    return None


def _title(validation: Validation) -> str:
    return "validation" if validation.kind == "validated" else "cross-validation"


def _against_section(section: Section) -> list[str]:
    """Why only an audit of these very fields helps."""
    reasons = []
    if assumed := sum(field.is_scale_assumed for field in section.fields):
        reasons.append(f"the pixel size of {some_of(assumed, section)} is only assumed. Remedy: --pixel-size-um")
    if trained := sum(field.is_trained for field in section.fields):
        of = some_of(trained, section)
        reasons.append(f"{of} trained this engine, which finds them better than new fields. Remedy: new fields")
    return reasons


def _against_validation(validation: Validation, sources: Sources) -> list[str]:
    """Why labelled fields say nothing of this engine and domain."""
    manifest = sources.manifest
    if validation.phases != [phase.name for phase in manifest.phases]:
        return [f"it is of the phases {', '.join(validation.phases)}. Remedy: microseg validate with this engine"]
    if validation.domain != sources.domain:
        adapted = [each.name for each in manifest.domains if each.role == "target"]
        without = " (adapted without labels)" if sources.domain in adapted else ""
        measured = f"the fields are measured as {sources.domain!r}{without}"
        return [
            f"it is of the domain {validation.domain!r}, {measured}. Remedy: microseg validate --as {sources.domain}"
        ]
    reasons = against_network(validation, manifest)
    trained = {field.sha256 for field in manifest.training_fields} if validation.kind == "validated" else set()
    if used := sum(field.sha256 in trained for field in validation.fields):
        total = len(validation.fields)
        reasons.append(
            f"{used} of its {total} fields trained this engine. Remedy: labelled fields that trained nothing"
        )
    return reasons if (few := too_few(validation)) is None else [*reasons, few]


def against_network(validation: Validation, manifest: Manifest) -> list[str]:
    """Why labelled fields say nothing of this network; empty where they do.

    Args:
        validation: the labelled fields. A cross-validation is of the folds of the engine that carries it.
        manifest: the engine's manifest.
    """
    if validation.kind == "validated" and validation.network_sha256 == manifest.network_sha256:
        return []
    if validation.kind == "validated" and (manifest.plan is None or validation.network_sha256 != manifest.model_sha256):
        return ["it is of another engine. Remedy: microseg validate with this one"]
    if manifest.plan is not None and not manifest.plan.verified:
        return ["it is of the ONNX file, with which this plan was not compared. Remedy: microseg verify"]
    return []


def _against_fields(section: Section, validation: Validation, sources: Sources) -> list[str]:
    """Why labelled fields say nothing of the fields of this section."""
    reasons = []
    # Most fields of a section share one.
    preparations = list({id(each): each for each in (field.preparation for field in section.fields)}.values())
    if any(each.artefacts for each in preparations) or validation.preparation.artefacts:
        reasons.append("artefacts leave the denominator of the fractions, which labelled fields do not cover")
    other = {key for each in preparations for key in _SEEN if _differs(each, validation.preparation, key)}
    if other := other - {"artefacts"}:
        keys = ", ".join(sorted(other))
        reasons.append(f"its fields were prepared with another {keys}. Remedy: microseg validate with these settings")
    if why := _against_scale(section, validation.pixel_sizes, in_um=sources.manifest.grid.pixel_size_um is not None):
        reasons.append(why)
    return reasons


def _differs(one: Preparation, other: Preparation, key: str) -> bool:
    first, second = getattr(one, key), getattr(other, key)
    if key == "intensity" and None in (first.bits, second.bits):
        # Where nothing states the bits, they are found from the files.
        first, second = (each.model_copy(update={"bits": None}) for each in (first, second))
    return bool(first != second)


def _against_scale(section: Section, sizes: PixelSizeRange | None, *, in_um: bool) -> str | None:
    if sizes is None:
        unknown_um = "the pixel size of its labelled fields is unknown. Remedy: `pixel_size_um` in their domain.yaml"
        return unknown_um if in_um else None
    unknown = sum(not field.edges_um for field in section.fields)
    if unknown:
        return f"the pixel size of {some_of(unknown, section)} is unknown. Remedy: --pixel-size-um"
    far = [field for field in section.fields if sizes.factor_beyond(*field.edges_um) > SCALE_TOLERANCE]
    if not far:
        return None
    span = PixelSizeRange.spanning(*(edge for field in far for edge in field.edges_um))
    there = f"({span.text}) is not that of its fields ({sizes.text})"
    return f"the pixel size of {some_of(len(far), section)} {there}. Remedy: labelled fields of this magnification"


def _estimates(manifest: Manifest, domain: str) -> str:
    """How far the estimates of a target's fractions differ, where that is more than the source explains."""
    found = manifest.adaptation
    if found is None or found.domain != domain or found.disagreement is None or found.limit is None:
        return ""
    if found.disagreement <= found.limit:
        return ""
    return (
        f"; estimates of its fractions differ by {100 * found.disagreement:.1f} points, and the source explains "
        f"{100 * found.limit:.1f}. Remedy: microseg validate, or microseg audit draw"
    )


def _adapted_to(validation: Validation, manifest: Manifest) -> list[str]:
    """What is to be told of labelled fields that the networks were adapted to, without their labels."""
    adapted = {field.sha256 for field in manifest.adaptation.fields} if manifest.adaptation else set()
    number = sum(field.sha256 in adapted for field in validation.fields)
    if not number or validation.kind != "validated":
        return []
    return [
        f"the engine was adapted to {number} of the {len(validation.fields)} labelled fields, without their labels: it may "
        "find them better than new fields"
    ]


def _no_cross_validation(manifest: Manifest, domain: str) -> str:
    if any(each.name == domain and each.role == "target" for each in manifest.domains):
        return f"the engine is adapted to {domain!r} without labels{_estimates(manifest, domain)}"
    return (
        "the engine holds no cross-validation (folds without held-out fields, or an engine of an earlier version). Remedy: "
        "microseg export RUN again, or microseg validate ENGINE LABELLED"
    )
