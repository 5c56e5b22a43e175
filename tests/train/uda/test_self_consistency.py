from __future__ import annotations

from typing import Any

import pytest

from microseg.train.uda.criteria import drifted, is_lost, self_consistency, snapshot_score, warnings_of
from microseg.train.uda.recipe import AdaptSegNet, Dacs, SourceOnly


@pytest.mark.parametrize(
    ("found", "is_drift"),
    [
        ([0.50, 0.47, 0.03], False),
        ([0.45, 0.44, 0.11], True),  # the rare phase is inflated: what naive self-training does
        ([0.50, 0.498, 0.002], True),  # the rare phase is lost
        ([0.20, 0.77, 0.03], False),  # a real label shift within the factor
        ([0.99, 0.009, 0.001], True),  # one phase takes all
    ],
)
def test_fractions_may_move_within_the_factor(found: list[float], is_drift: bool) -> None:
    assert drifted(found, [[0.48, 0.49, 0.03], [0.35, 0.60, 0.05 / 1.5]], 2.5) is is_drift


def _row(**values: Any) -> dict[str, Any]:
    row = {"step": 50, "discriminator": None, "drifted": False, "certainty": 0.8, "fractions": [0.5, 0.5]}
    return row | values


def test_warnings_say_what_to_do() -> None:
    method = AdaptSegNet()
    assert warnings_of([_row()], method) == []
    history = [_row(discriminator=0.02), _row(drifted=True), _row(certainty=0.999, fractions=[0.995, 0.005])]
    found = warnings_of(history, method)
    assert len(found) == 3
    assert all("Remedy" in text for text in found)
    assert "discriminator_rate" in found[0]
    assert "weighting" not in found[1]  # a key that this method has not
    assert "method.weighting=pixel" in warnings_of(history, Dacs(weighting="image"))[1]
    assert warnings_of([_row(drifted=True), _row(drifted=True)], SourceOnly()) == []  # it never saw the target


def test_a_discriminator_of_least_squares_has_won_at_a_tenth_of_the_loss() -> None:
    """Wrong by 0.3 on average is 0.1 in squares, and far from certainty."""
    close, won = (_row(discriminator=value) for value in (0.05, 0.005))
    assert warnings_of([close], AdaptSegNet()) and not warnings_of([close], AdaptSegNet(loss="least_squares"))
    assert warnings_of([won], AdaptSegNet(loss="least_squares"))


def test_training_that_drifted_twice_running_is_lost() -> None:
    gone, fine = _row(drifted=True), _row()
    assert not is_lost([fine, gone]) and not is_lost([fine, gone, fine])
    assert is_lost([fine, gone, gone])
    assert "training ends at step 50" in warnings_of([fine, gone, gone], Dacs())[0]


def test_self_consistency_is_the_mean_of_both_agreements() -> None:
    assert self_consistency({"flips": 0.8, "photometric": 0.6}) == pytest.approx(0.7)


def test_of_equally_sure_snapshots_the_one_that_still_knows_the_source_is_chosen() -> None:
    sure = {"flips": 0.9, "photometric": 0.9, "source_miou": 0.7}
    assert snapshot_score(sure) > snapshot_score(sure | {"source_miou": 0.5})
    assert snapshot_score(sure) > snapshot_score(sure | {"flips": 0.8})
    assert snapshot_score(sure) == snapshot_score(
        sure | {"photometric": 1.0}
    )  # what self-training makes rise by itself
