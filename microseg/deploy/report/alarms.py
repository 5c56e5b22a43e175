"""What the engine's alarm says of a report and of its sections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from microseg.core.alarm.predict import SectionAlarm, section_alarm
from microseg.core.alarm.schema import Alarm, FieldAlarm
from microseg.deploy.measurement.evidence import Verdict
from microseg.deploy.report.records import FieldRecord


@dataclass(frozen=True)
class ReportAlarms:
    """What the alarm says.

    Attributes:
        report: of all fields that count, together.
        sections: of each section, by its name.
    """

    report: SectionAlarm
    sections: Mapping[str, SectionAlarm]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What it says of each section, for the evidence."""
        return {name: Verdict(found.level, alarm_text(found)) for name, found in self.sections.items()}


def alarms_of(alarm: Alarm | None, records: Sequence[FieldRecord], sections: Mapping[str, str]) -> ReportAlarms | None:
    """What an alarm says of the fields of a report.

    Args:
        alarm: the engine's alarm, or None.
        records: the measured fields that count.
        sections: the section of each field, by the field's name.

    Returns:
        The verdicts; None where the engine holds no alarm, or no field was looked at.
    """
    return alarms_among(alarm, ((sections.get(record.name, ""), record.alarm) for record in records))


def alarms_among(alarm: Alarm | None, fields: Iterable[tuple[str, FieldAlarm | None]]) -> ReportAlarms | None:
    """As `alarms_of`, of sections and what the alarm says of each field that counts."""
    by_section: dict[str, list[FieldAlarm]] = {}
    looked: list[FieldAlarm] = []
    for section, found in fields if alarm is not None else ():
        if found is not None:
            by_section.setdefault(section, []).append(found)
            looked.append(found)
    if alarm is None or not looked:
        return None
    of_sections = {name: section_alarm(alarm, each) for name, each in by_section.items()}
    return ReportAlarms(section_alarm(alarm, looked), of_sections)


def alarm_text(found: SectionAlarm) -> str:
    """A verdict in words."""
    points = f"predicted error {100 * found.predicted_error:.1f} points"
    raised = sum(number for level, number in found.fields.items() if level != "known")
    fields = f"{raised} of {sum(found.fields.values())} fields raise it"
    if found.level == "known":
        return f"known ({points}{f'; {fields}' if raised else ''})"
    return f"{found.level} (signs: {', '.join(found.causes)}; {points}; {fields}). Remedy: {found.cure}"
