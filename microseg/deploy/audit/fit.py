"""Whether an engine fits a material, by its audited fields: one sentence with the line of its error and what to do."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.core.schemas.validation import ValidationField
from microseg.core.statistics.student import t_quantile_975
from microseg.core.statistics.validation_sample import count_covariance

# As fractions: a bias that a metallographer tolerates, a scatter that a correction leaves, and one that it cannot help.
SMALL_BIAS, SMALL_SCATTER, LARGE_SCATTER = 0.02, 0.03, 0.08
# Of a smaller share of the variance between fields than this, no slope is stated.
_LEAST_SPREAD = 0.5


def fit_of(fields: Sequence[ValidationField], phases: Sequence[str]) -> str:
    """The sentence, of the phase that varies most between the fields.

    Args:
        fields: the audited fields.
        phases: names of the phases.
    """
    true, found = (
        np.array([getattr(field, key) for field in fields], np.float64) for key in ("true_fractions", "found_fractions")
    )
    # Of phases that vary alike, as two always do, the last: the first is usually the matrix.
    phase = len(phases) - 1 - int(true.std(0)[::-1].round(9).argmax())
    n = len(fields)
    if n < 3:
        return "too few audited fields to say whether the engine fits this material"
    x, error = true[:, phase], found[:, phase] - true[:, phase]
    points = [math.inf if field.counts is None else float(field.counts.points) for field in fields]
    noise = float(np.mean([count_covariance(row, each)[phase, phase] for row, each in zip(true, points, strict=True)]))
    bias, half = float(error.mean()), t_quantile_975(n - 1) * float(error.std(ddof=1)) / math.sqrt(n)
    line, scatter = _line(x, error, noise)
    action = _action(bias, half, float(error.std(ddof=1)), scatter, noise)
    return (
        f"the engine finds {100 * abs(bias):.1f} points too {'much' if bias >= 0 else 'little'} {phases[phase]} at "
        f"{100 * x.mean():.1f} % (95 % of the bias: {100 * (bias - half):+.1f} to {100 * (bias + half):+.1f} points){line}; "
        f"scatter {100 * scatter:.1f} points: {action}"
    )


def _line(true: NDArray[np.float64], error: NDArray[np.float64], noise: float) -> tuple[str, float]:
    """The slope of found on true fractions in words, and the scatter about the line without the noise of counts."""
    n = len(true)
    variance = float(true.var(ddof=1))
    plain = math.sqrt(max(0.0, float(error.var(ddof=1)) - noise))
    # Counts that err make a slope too flat: their noise is no spread of the fields.
    spread = variance - noise
    if n < 4 or variance <= 0 or spread < _LEAST_SPREAD * variance:
        return "", plain
    slope = (float(np.cov(true, error)[0, 1]) + noise) / spread
    residual = error - error.mean() - slope * (true - true.mean())
    left = float(residual @ residual) / (n - 2)
    half = t_quantile_975(n - 2) * math.sqrt(left / ((n - 1) * spread))
    text = f" and {1 + slope:.2f} of each further point ({1 + slope - half:.2f} to {1 + slope + half:.2f})"
    return text, math.sqrt(max(0.0, left - noise * (1 + slope) ** 2))


def _action(bias: float, half: float, spread: float, scatter: float, noise: float) -> str:
    alone = math.sqrt(max(0.0, spread**2 - noise))
    if abs(bias) <= max(SMALL_BIAS, half) and alone <= SMALL_SCATTER:
        return "it fits this material, and there is nothing to do"
    if scatter <= SMALL_SCATTER:
        return "it errs evenly, so that the correction by these fields is enough"
    if scatter <= LARGE_SCATTER:
        return "it errs from field to field, which no correction mends. Remedy: adapt it (microseg train uda --target FOLDER)"
    return "it does not know this material. Remedy: label fields of it (microseg suggest) and train (microseg train supervised)"
