"""From the distances of a field to its predicted error and verdict; from the fields of a section to that of the section."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.alarm.causes import AUDIT, causes_of
from microseg.core.alarm.measures import FieldMeasures
from microseg.core.alarm.schema import Alarm, FieldAlarm, Group, Level
from microseg.core.alarm.scores import Reference, deviations, distances, reference_in, standardised

# Doubtful fields of a section that chance explains: the share of fields at home that may be doubtful, and the probability
# below which more of them are no chance.
_BY_CHANCE, _IMPROBABLE = 0.02, 0.01
# Standard deviations of the mean score of a section from which it is no chance: 99.5 % of Student's t for eight fields.
_CLEAR_MEAN = 3.5
# From this score on, what a further standard deviation adds falls.
_BEND = 3.0


def link(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a score adds to the root of the predicted error: nothing below that of labelled fields, then ever less."""
    return np.asarray(np.arcsinh(np.maximum(scores, 0.0) / _BEND))


def predicted_error(alarm: Alarm, scores: Mapping[Group, float]) -> float:
    """Predicted absolute error of a field's fractions after correction, 0-1. Scores are cut at those of the calibration."""
    total = alarm.intercept
    for group in alarm.groups:
        if group.group in scores:
            total += group.weight * float(link(np.array(min(scores[group.group], group.largest))))
    return total**2


class FieldJudge:
    """An alarm that looks at fields.

    Attributes:
        alarm: its calibration.
    """

    def __init__(self, alarm: Alarm) -> None:
        """Args:
        alarm: its calibration.
        """
        self.alarm = alarm
        self._reference: Reference = reference_in(alarm)

    def judge(self, field: FieldMeasures) -> FieldAlarm:
        """What the alarm says of a field.

        Args:
            field: its measures.
        """
        alarm = self.alarm
        scores = standardised(distances(self._reference, field), alarm)
        error = predicted_error(alarm, scores)
        is_beyond = any(scores.get(each.group, 0.0) > each.largest for each in alarm.groups if each.weight)
        level = _level(alarm, error, is_beyond)
        off = deviations(self._reference, field)
        causes: list[str] = []
        cure = ""
        if level != "known":
            causes, cure = causes_of(off, scores)
            causes, cure = causes or ["no single measure stands out"], cure or AUDIT
        return FieldAlarm(
            level=level,
            predicted_error=round(min(error, 1.0), 5),
            scores={group: round(score, 3) for group, score in scores.items()},
            deviations={name: round(value, 2) for name, value in off.items()},
            causes=causes,
            cure=cure,
        )


def _level(alarm: Alarm, error: float, is_beyond: bool) -> Level:
    if error > alarm.foreign or is_beyond:
        return "foreign"
    return "doubtful" if error > alarm.doubtful else "known"


@dataclass(frozen=True)
class SectionAlarm:
    """What an alarm says of the fields of a section together.

    Attributes:
        level: known, doubtful or foreign.
        predicted_error: mean predicted error of the fields, 0-1.
        fields: number of fields by level.
        causes: what differs, the most frequent first.
        cure: what helps; empty for a known section.
    """

    level: Level
    predicted_error: float
    fields: Mapping[Level, int]
    causes: tuple[str, ...]
    cure: str


def section_alarm(alarm: Alarm, fields: Sequence[FieldAlarm]) -> SectionAlarm:
    """What an alarm says of the fields of a section together.

    A section is foreign where one of its fields is. It is doubtful where more of them are doubtful than chance explains, or
    where their mean distance is beyond that of as many labelled fields: what all fields share does not average out.

    Args:
        alarm: the calibration.
        fields: what it says of each field, at least one.
    """
    counts = Counter(field.level for field in fields)
    raised = len(fields) - counts["known"]
    level: Level = "known"
    if counts["foreign"]:
        level = "foreign"
    elif _at_least(raised, len(fields)) < _IMPROBABLE or len(fields) == raised or _mean_is_off(alarm, fields):
        level = "doubtful"
    causes = Counter(cause for field in fields for cause in field.causes)
    cures = Counter(field.cure for field in fields if field.cure)
    found = tuple(cause for cause, _ in causes.most_common())
    return SectionAlarm(
        level=level,
        predicted_error=float(np.mean([field.predicted_error for field in fields])),
        fields={each: counts[each] for each in ("known", "doubtful", "foreign")},
        causes=found if level == "known" or found else ("all fields are a little off",),
        cure="" if level == "known" else cures.most_common(1)[0][0] if cures else AUDIT,
    )


def _mean_is_off(alarm: Alarm, fields: Sequence[FieldAlarm]) -> bool:
    """Whether the mean score of a group is beyond what so many fields at home have, whose own mean comes from few fields."""
    if len(fields) < 2:
        return False
    spread = np.sqrt(1 / len(fields) + 1 / alarm.fields)
    for each in alarm.groups:
        scores = [field.scores[each.group] for field in fields if each.weight and each.group in field.scores]
        if scores and float(np.mean(scores)) > _CLEAR_MEAN * spread:
            return True
    return False


def _at_least(successes: int, trials: int) -> float:
    """Probability of so many doubtful fields, or more, by chance (binomial)."""
    below, term = 0.0, (1 - _BY_CHANCE) ** trials
    for count in range(successes):
        below += term
        term *= (trials - count) / (count + 1) * _BY_CHANCE / (1 - _BY_CHANCE)
    return 1 - below
