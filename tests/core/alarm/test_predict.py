"""Verdicts of fields and sections."""

import pytest

from microseg.core.alarm.predict import section_alarm
from microseg.core.alarm.schema import FieldAlarm, Level
from tests.core.alarm.samples import ALARM


def _fields(known: int = 0, doubtful: int = 0, foreign: int = 0, score: float = 0.0) -> list[FieldAlarm]:
    numbers: dict[Level, int] = {"known": known, "doubtful": doubtful, "foreign": foreign}
    levels = [level for level, number in numbers.items() for _ in range(number)]
    return [
        FieldAlarm(
            level=level,
            predicted_error=0.01,
            scores={"folds": score, "features": score},
            causes=[] if level == "known" else ["blurred"],
            cure="" if level == "known" else "capture it again",
        )
        for level in levels
    ]


@pytest.mark.parametrize(
    ("fields", "level"),
    [
        (_fields(known=10), "known"),
        (_fields(known=19, doubtful=1), "known"),
        (_fields(known=7, doubtful=3), "doubtful"),
        (_fields(doubtful=1), "doubtful"),
        (_fields(known=19, foreign=1), "foreign"),
        (_fields(known=10, score=2.5), "doubtful"),
        (_fields(known=1, score=2.5), "known"),
    ],
)
def test_level_of_a_section(fields: list[FieldAlarm], level: Level) -> None:
    assert section_alarm(ALARM, fields).level == level


def test_a_section_tells_cause_cure_and_numbers() -> None:
    found = section_alarm(ALARM, _fields(known=2, doubtful=3))
    assert found.fields == {"known": 2, "doubtful": 3, "foreign": 0}
    assert found.causes == ("blurred",)
    assert found.cure == "capture it again"
    assert found.predicted_error == pytest.approx(0.01)


def test_fields_that_are_all_a_little_off_have_a_cause_and_a_cure() -> None:
    found = section_alarm(ALARM, _fields(known=10, score=2.5))
    assert found.causes == ("all fields are a little off",)
    assert "audit" in found.cure
