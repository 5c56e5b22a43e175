"""Whether the alarm of an engine withdraws labelled fields from a section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microseg.core.alarm.schema import Group
    from microseg.core.schemas.validation import Validation
    from microseg.deploy.measurement.evidence import Section, Sources

_NO_ALARM = (
    "no alarm looked at these fields, so that nothing shows whether they are like the labelled ones. Remedy: export the run "
    "again with its labelled fields in place (at least five), or microseg validate"
)
_NOT_LOOKED = (
    "smaller than it needs, or measured by an earlier version. Remedy: larger fields, or microseg segment with another "
    "--out"
)
_UNSEEN = "no alarm looked at these fields, so that nothing shows whether they are like the validated ones"
_MEASURES: dict[Group, str] = {
    "folds": "agreement of the folds",
    "grey": "grey values",
    "structure": "sharpness, noise or shading",
    "phases": "grey values and texture of the phases",
    "features": "features of the networks",
}


@dataclass(frozen=True)
class AlarmSays:
    """What the alarm means for labelled fields: whether it withdraws them, and why, or what else is to be told."""

    withdraws: bool
    reasons: tuple[str, ...] = ()


def alarm_says(section: Section, validation: Validation, sources: Sources) -> AlarmSays:
    """Whether the alarm withdraws labelled fields from a section.

    It withdraws a cross-validation, whose fields are those of the calibration; so does a field that it did not look at, since
    nothing else shows whether the field is like those. It withdraws a validation where it tells the section from the
    validation's fields: where one side raises it and the section lies outside the range that they span.
    """
    verdict = section.alarm
    if validation.kind == "cross-validated":
        if sources.manifest.alarm is None:
            return AlarmSays(True, (_NO_ALARM,))
        unseen = sum(field.alarm is None for field in section.fields)
        if unseen or verdict is None:
            number = unseen or len(section.fields)
            return AlarmSays(True, (f"no alarm looked at {some_of(number, section)}: {_NOT_LOOKED}",))
        return AlarmSays(True, (f"alarm: {verdict.text}",)) if verdict.is_raised else AlarmSays(False)
    if verdict is None:
        return AlarmSays(False, (_UNSEEN,))
    if (unknown := _not_comparable(section, validation, sources)) is not None:
        said = (
            f"the alarm is raised ({verdict.level}), and nothing shows whether these fields are like those: {unknown}"
        )
        return AlarmSays(False, (said,) if verdict.is_raised else ())
    # Imported here: nothing else of the evidence needs NumPy.
    from microseg.core.alarm.likeness import differing_groups

    labelled = [field for field in validation.fields if field.alarm is not None]
    known = [field.alarm for field in labelled if field.alarm is not None]
    new = [field.alarm for field in section.fields if field.alarm is not None]
    outside = differing_groups(known, [field.group for field in labelled], new)
    if not outside:
        inside = f"the alarm is raised ({verdict.level}), and these fields lie in the range of the validated ones"
        return AlarmSays(False, (inside,) if verdict.is_raised else ())
    where = f"these fields lie outside the range of its fields ({', '.join(_MEASURES[group] for group in outside)})"
    if verdict.is_raised:
        return AlarmSays(
            True, (f"{where}; alarm: {verdict.text}, or microseg validate with labelled fields like these",)
        )
    if 2 * sum(each.level != "known" for each in known) > len(known):
        return AlarmSays(True, (f"{where}; its fields raise the alarm, and these do not",))
    return AlarmSays(False)


def _not_comparable(section: Section, validation: Validation, sources: Sources) -> str | None:
    """Why the alarm's measures of a section and of labelled fields do not compare; None where they do."""
    alarm = sources.manifest.alarm
    again = "microseg validate" if validation.sha256 is not None else "microseg export RUN --validate"
    if validation.alarm_sha256 is None:
        return f"the validation holds no measures of the alarm. Remedy: {again} again"
    if alarm is None or validation.alarm_sha256 != alarm.sha256:
        return f"its measures are of another calibration of the alarm. Remedy: {again} again"
    if len({field.group for field in validation.fields if field.alarm is not None}) < 2:
        return "its fields are too small to be judged, or of one group. Remedy: microseg validate with larger or more fields"
    # Fields that are too small to be judged have no alarm.
    if any(field.alarm is not None and not field.alarm.deviations for field in section.fields):
        return "an earlier version measured some of them. Remedy: microseg segment with another --out"
    return None


def some_of(count: int, section: Section) -> str:
    """How many of the fields of a section, in words."""
    total = len(section.fields)
    if total == 1:
        return "the field"
    return f"all {total} fields" if count == total else f"{count} of {total} fields"
