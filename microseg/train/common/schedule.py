"""What the number of a step decides: the learning rate and the seed."""

from __future__ import annotations

import math

import numpy as np

from microseg.train.common.recipe import Schedule


def rate_factor(schedule: Schedule, step: int, steps: int) -> float:
    """The learning rate of a step over its base value.

    Args:
        schedule: Linear warm-up, then constant, polynomial or cosine.
        step: The step, 0 to steps - 1.
        steps: Steps in all.

    Returns:
        The factor, 0 to 1.
    """
    warm = schedule.warmup * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    t = (step - warm) / max(steps - warm, 1)
    match schedule.kind:
        case "constant":
            return 1.0
        case "polynomial":
            return float((1 - t) ** schedule.power)
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * t))


def seed_of(*parts: int) -> int:
    """One seed for torch from several numbers, such as the run's seed, the fold and the step."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
