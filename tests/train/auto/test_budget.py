"""The forecast: as many steps as fit, and the time that they take."""

from __future__ import annotations

import pytest

from microseg.core.schemas.automatic import Speed
from microseg.train.auto.budget import LEAST_STEPS, MOST_STEPS, Forecast, TrainingWork, forecast

SPEED = Speed(step_s=1.5, megapixel_s=4.0, start_s=3.0)


def simulated(speed: Speed, work: TrainingWork, plan: Forecast) -> float:
    """The time of a training, step by step: folds in rounds, a score at every validation, and one of the whole run."""
    scoring = work.megapixels / work.folds * speed.megapixel_s
    fold = speed.start_s
    for step in range(1, plan.steps + 1):
        fold += speed.step_s
        if step % plan.validate_every == 0 or step == plan.steps:
            fold += scoring
    return -(-work.folds // work.workers) * fold + work.megapixels * speed.megapixel_s


@pytest.mark.parametrize("minutes", [5, 30, 45, 120])
@pytest.mark.parametrize(
    "work",
    [TrainingWork(4, 2, 10.0), TrainingWork(5, 1, 4.0), TrainingWork(5, 5, 40.0), TrainingWork(2, 2, 0.5)],
    ids=str,
)
def test_the_steps_fill_the_time(minutes: float, work: TrainingWork) -> None:
    plan = forecast(SPEED, work, 60 * minutes)
    assert plan.seconds == pytest.approx(simulated(SPEED, work, plan))
    if LEAST_STEPS < plan.steps < MOST_STEPS:
        assert 0.97 * 60 * minutes - 10 < plan.seconds <= 60 * minutes


def test_more_time_is_more_steps() -> None:
    steps = [forecast(SPEED, TrainingWork(4, 2, 10.0), 60 * minutes).steps for minutes in range(1, 260, 10)]
    assert steps == sorted(steps) and steps[0] == LEAST_STEPS and steps[-1] == MOST_STEPS


def test_given_steps_are_kept() -> None:
    plan = forecast(SPEED, TrainingWork(4, 2, 10.0), 60.0, steps=70)
    assert plan.steps == 70 and plan.seconds > 60


def test_validations_are_a_small_part() -> None:
    dear = forecast(SPEED, TrainingWork(4, 2, 200.0), 1800.0)
    assert dear.validate_every == dear.steps, "scored at the end alone"
    cheap = forecast(SPEED, TrainingWork(4, 2, 2.0), 1800.0)
    assert -(-cheap.steps // cheap.validate_every) == 4
