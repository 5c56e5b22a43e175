"""The calibration of an alarm."""

import numpy as np
import pytest

from microseg.core.alarm.calibrate import calibrated, fitted
from microseg.core.alarm.predict import FieldJudge, link
from microseg.core.alarm.schema import Alarm
from tests.core.alarm.samples import ALARM, field, parts


def test_weights_are_found_again_and_never_negative() -> None:
    rng = np.random.default_rng(2)
    scores = rng.uniform(0, 20, (400, 2))
    errors = (0.1 + link(scores) @ np.array([0.2, 0.0])) ** 2
    assert fitted(scores, errors, 0.01) == pytest.approx([0.2, 0.0], abs=0.03)
    assert fitted(scores, 0.0 * errors, 0.01).tolist() == [0.0, 0.0]


def test_new_fields_at_home_are_known_whatever_their_fraction() -> None:
    rng, judge = np.random.default_rng(5), FieldJudge(ALARM)
    levels = [judge.judge(field(rng, fraction=share)).level for share in np.linspace(0.1, 0.9, 200)]
    assert levels.count("known") >= 196


def test_the_predicted_error_grows_with_the_distance_and_is_cut() -> None:
    rng, judge = np.random.default_rng(6), FieldJudge(ALARM)
    found = [judge.judge(field(rng, off)).predicted_error for off in (0.0, 0.3, 1.0, 5.0, 50.0)]
    assert found[0] < found[1] < found[2] <= found[3] == pytest.approx(found[4], rel=0.05)
    assert judge.judge(field(rng, 50.0)).level == "foreign"


def test_an_alarm_is_the_same_after_it_was_stored() -> None:
    rng = np.random.default_rng(7)
    measures = field(rng, 0.5)
    again = Alarm.model_validate_json(ALARM.model_dump_json())
    assert FieldJudge(again).judge(measures) == FieldJudge(ALARM).judge(measures)


def test_the_limit_of_an_error_is_two_points_or_the_quantile_at_home() -> None:
    assert ALARM.error_limit == 0.02
    assert ALARM.bias == pytest.approx([-0.01, 0.01], abs=0.003)
    assert 0.02 <= ALARM.doubtful <= ALARM.foreign


def test_four_fields_give_no_alarm() -> None:
    assert calibrated(parts(fields=4), "s") is None


def test_other_grey_values_alone_do_not_raise_it() -> None:
    rng, judge = np.random.default_rng(8), FieldJudge(ALARM)
    assert judge.judge(field(rng, grey_mean=5.0)).level == "known"
