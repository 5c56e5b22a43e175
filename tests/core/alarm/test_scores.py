"""Distances from the labelled fields."""

import numpy as np
import pytest

from microseg.core.alarm.scores import deviations, distances, reference_in, reference_of, stored
from tests.core.alarm.samples import ALARM, field

RNG = np.random.default_rng(11)
HOME = reference_of([field(RNG) for _ in range(40)], 10)


def test_what_follows_the_fraction_is_no_deviation() -> None:
    assert HOME.slopes[0] == pytest.approx(np.ones(10), abs=0.5)
    found = deviations(HOME, field(np.random.default_rng(1), fraction=0.9))
    assert np.abs(list(found.values())).max() < 4


def test_a_deviation_has_a_sign_and_is_less_certain_beyond_the_fractions_and_in_small_fields() -> None:
    exact = field(np.random.default_rng(1), fraction=0.5, noise=1.0)
    assert deviations(HOME, exact)["noise"] > 5
    small = type(exact)(64 * 64, exact.fractions, exact.values, exact.features)
    assert deviations(HOME, small)["noise"] == pytest.approx(deviations(HOME, exact)["noise"] / 4, rel=0.05)


def test_less_disagreement_is_no_distance_but_fewer_greys_are() -> None:
    found = distances(HOME, field(np.random.default_rng(1), unsure=-1.0, borders=-1.0, grey_std=-2.0))
    assert max(found["folds"], found["borders"]) < -5
    assert found["grey"] > 5


def test_a_manifest_holds_the_reference_to_five_digits() -> None:
    again = reference_in(ALARM)
    inputs, features = stored(again)
    assert (inputs, features) == (ALARM.inputs, ALARM.features)
