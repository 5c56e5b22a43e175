"""Whether a section lies in the range that validated fields span."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import t

from microseg.core.alarm.likeness import differing_groups
from microseg.core.alarm.schema import FieldAlarm

RNG_SEED = 5


def field(grey: float = 0.0, features: float = 0.0, unsure: float = 0.0) -> FieldAlarm:
    return FieldAlarm(
        level="foreign",
        predicted_error=0.1,
        scores={"grey": abs(grey), "features": features, "folds": unsure},
        deviations={"grey_mean": grey, "unsure": unsure},
        causes=[],
    )


def groups(number: int) -> list[str]:
    return [f"{index}" for index in range(number)]


@pytest.mark.parametrize("number", [4, 8, 16])
def test_the_range_of_one_measure_is_a_prediction_interval(number: int) -> None:
    """Mean +- t s √(1 + 1/n); the distance from the other fields makes it √(1 - 1/n²) times as wide as that, inverted."""
    values = np.random.default_rng(RNG_SEED).normal(7, 2, number)
    half_width = float(t.ppf(0.999, number - 1) * values.std(ddof=1) * np.sqrt(1 + 1 / number))
    half_width /= np.sqrt(1 - 1 / number**2)
    half_width = max(half_width, number / (number - 1) * np.abs(values - values.mean()).max())
    known = [field(grey=value) for value in values]
    for side in (-1, 1):
        inside, outside = (values.mean() + side * factor * half_width for factor in (0.999, 1.001))
        assert differing_groups(known, groups(number), [field(grey=inside)]) == ()
        assert differing_groups(known, groups(number), [field(grey=outside)]) == ("grey",)


def test_groups_of_measures_are_told_and_the_features_by_their_score() -> None:
    rng = np.random.default_rng(RNG_SEED)
    known = [field(*rng.normal(10, 1, 3)) for _ in range(8)]
    assert differing_groups(known, groups(8), [field(10, 10, 10)]) == ()
    assert differing_groups(known, groups(8), [field(-10, 10, 40)]) == ("folds", "grey")
    assert differing_groups(known, groups(8), [field(10, 0, 10)]) == ("features",)


def test_fields_of_one_specimen_count_as_one() -> None:
    known = [field(grey=value) for value in (0.0, 0.01, 1.0, 1.01, 2.0, 2.01)]
    far = [field(grey=9.0)]
    assert differing_groups(known, groups(6), far) == ("grey",)
    assert differing_groups(known, list("aabbcc"), far) == ()
    assert differing_groups(known, ["a"] * 6, far) == differing_groups(known, groups(6), []) == ()


def test_one_far_field_of_many_moves_a_section_and_measures_that_some_lack_are_left_out() -> None:
    known = [field(grey=(-1) ** index) for index in range(8)]
    assert differing_groups(known, groups(8), [*[field()] * 9, field(grey=30)]) == ("grey",)
    assert differing_groups(known, groups(8), [*[field()] * 9, field(grey=10)]) == ()
    bare = field(grey=30).model_copy(update={"deviations": {}, "scores": {}})
    assert differing_groups(known, groups(8), [bare]) == ()


@pytest.mark.parametrize("number", [2, 3])
def test_few_specimens_show_a_range_of_the_factor_of_four(number: int) -> None:
    """Student's t for two specimens is 318, and no section lies beyond that, however foreign."""
    known = [field(grey=float(index % 2)) for index in range(number)]
    assert differing_groups(known, groups(number), [field(grey=3.0)]) == ()
    assert differing_groups(known, groups(number), [field(grey=40.0)]) == ("grey",)
