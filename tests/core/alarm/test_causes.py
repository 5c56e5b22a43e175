"""Causes in words."""

import pytest

from microseg.core.alarm.causes import ADAPT, AUDIT, RECAPTURE, SCALE, causes_of
from microseg.core.alarm.schema import Group


@pytest.mark.parametrize(
    ("deviations", "scores", "cause", "cure"),
    [
        ({"grey_mean": -5.0}, {}, "darker", RECAPTURE),
        ({"grey_mean": 5.0}, {}, "brighter", RECAPTURE),
        ({"grey_std": -5.0}, {}, "less contrast", RECAPTURE),
        ({"shading": 5.0}, {}, "uneven brightness", RECAPTURE),
        ({"noise": 9.0, "band_0": 8.0}, {}, "noisier", RECAPTURE),
        ({"band_0": -9.0, "band_1": -6.0}, {}, "blurred", RECAPTURE),
        ({"band_0": -9.0, "band_1": -6.0, "band_2": 2.0, "band_3": 4.0}, {}, "other scale", SCALE),
        ({"noise": -9.0}, {}, "smoother: other scale or averaged", SCALE),
        ({}, {"features": 8.0}, "other texture", ADAPT),
        ({}, {"folds": 4.0}, "folds disagree", AUDIT),
        ({"pairwise_dice": 4.0}, {}, "folds disagree", AUDIT),
        ({"borders": 4.0}, {}, "longer borders of phases", AUDIT),
        ({}, {}, None, ""),
    ],
)
def test_cause_and_cure(deviations: dict[str, float], scores: dict[Group, float], cause: str | None, cure: str) -> None:
    found, remedy = causes_of(deviations, scores)
    assert (found, remedy) == ([] if cause is None else [cause], cure)
