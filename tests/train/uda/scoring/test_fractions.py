from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.schemas.run import FractionEstimates
from microseg.train.uda.scoring.fractions import (
    LEAST_DISAGREEMENT,
    HeldOut,
    TargetView,
    estimated_fractions,
    target_view,
)

PHASES = ("matrix", "crack")
PIXELS = 10_000


def _soft(crack: float, contrast: float, sure: float = 1.0) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Probabilities and labels of a field whose grey values are normal, `contrast` deviations apart, learned at 0.5 each.

    The grey values are quantiles, so that nothing is drawn. sure: Factor of the logits; at 1 the probabilities are calibrated.
    """
    from scipy.stats import norm

    ones = round(PIXELS * crack)
    grey = np.concatenate(
        [
            norm.ppf((np.arange(count) + 0.5) / max(count, 1)) + shift
            for count, shift in ((PIXELS - ones, 0), (ones, contrast))
        ]
    )
    of_crack = 1 / (1 + np.exp(-sure * contrast * (grey - contrast / 2)))
    labels = np.repeat(np.array([0, 1], np.uint8), [PIXELS - ones, ones])
    return np.column_stack([1 - of_crack, of_crack]), labels


def _held_out(fold: int, crack: float, sure: float = 1.0) -> HeldOut:
    soft, labels = _soft(crack, 2.0, sure)
    found = soft.argmax(1)
    confusion = np.bincount(labels * 2 + found, minlength=4).reshape(2, 2).astype(np.int64)
    return HeldOut(fold, f"specimen {crack}", confusion, soft, labels)


def _home(sure: float = 1.0) -> list[HeldOut]:
    return [_held_out(place % 2, crack, sure) for place, crack in enumerate((0.3, 0.4, 0.5, 0.5, 0.6, 0.7))]


def _estimated(crack: float, contrast: float = 2.0, sure: float = 1.0) -> tuple[float, FractionEstimates]:
    """What two equal folds count of crack, and the estimates."""
    soft, _ = _soft(crack, contrast, sure)
    counted = np.bincount(soft.argmax(1), minlength=2) / PIXELS
    view = TargetView(np.stack([counted] * 2), np.stack([soft] * 2))
    found = estimated_fractions(PHASES, counted, [view], _home(sure))
    assert found is not None
    return float(counted[1]), found


@pytest.mark.parametrize("sure", [1.0, 3.0])
def test_where_only_the_composition_differs_both_corrections_find_it(sure: float) -> None:
    """Counting finds 16 % of the matrix as crack and misses 16 % of the crack: 0.29 in place of 0.2.

    Of the slope of the error, -0.317, the held-out fields show S / (S + 0.0225), with S = 0.1, their sum of squares.
    """
    counted, found = _estimated(0.2, sure=sure)
    assert counted == pytest.approx(0.2 * 0.841 + 0.8 * 0.159, abs=2e-3)
    assert found.corrected["crack"] == pytest.approx(0.5 + (counted - 0.5) / (1 - 0.3173 * 0.1 / 0.1225), abs=2e-3)
    assert found.emq["crack"] == pytest.approx(0.2, abs=0.02)
    assert found.temperatures == pytest.approx([sure, sure], rel=0.05)
    assert found.disagreement == pytest.approx(counted - min(found.corrected["crack"], found.emq["crack"]), abs=1e-6)


def test_at_home_the_estimates_are_as_far_apart_as_on_held_out_fields() -> None:
    _, found = _estimated(0.45)
    assert found.disagreement < found.limit
    assert found.limit > LEAST_DISAGREEMENT


def test_where_the_phases_look_otherwise_the_estimates_disagree() -> None:
    """With all grey values moved by half the contrast, nearly all is crack by any count, and the response is of no use."""
    soft, _ = _soft(0.5, 2.0)
    logits = np.log(soft[:, 1] / soft[:, 0]) + 3
    moved = 1 / (1 + np.exp(-logits))
    soft = np.column_stack([1 - moved, moved])
    counted = np.bincount(soft.argmax(1), minlength=2) / PIXELS
    view = TargetView(np.stack([counted] * 2), np.stack([soft] * 2))
    found = estimated_fractions(PHASES, counted, [view], _home())
    assert found is not None and found.disagreement > 3 * LEAST_DISAGREEMENT


def test_without_another_fold_the_limit_is_the_least() -> None:
    soft, _ = _soft(0.5, 2.0)
    view = TargetView(np.array([[0.5, 0.5]]), soft[None])
    found = estimated_fractions(PHASES, np.array([0.5, 0.5]), [view], [_held_out(0, 0.4), _held_out(0, 0.6)])
    assert found is not None and found.limit == LEAST_DISAGREEMENT
    assert estimated_fractions(PHASES, np.array([0.5, 0.5]), [view], []) is None


def test_a_view_is_counted_whole_and_sampled_thinly() -> None:
    crack = np.tile(np.array([0.9, 0.2, 0.2, 0.2], np.float32), (300, 75))
    found = target_view([np.stack([1 - crack, crack])] * 3)
    assert found.found == pytest.approx(np.array([[0.75, 0.25]] * 3))
    assert found.samples.shape[0] == 3 and 20_000 <= found.samples.shape[1] <= 40_000 and found.samples.shape[2] == 2
