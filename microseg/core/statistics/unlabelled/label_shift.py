"""Fractions from probabilities, where the composition differs from the one that the probabilities were learned with."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

# Temperatures that are tried: far beyond what networks need.
_LEAST, _MOST = 0.05, 20.0
# Probabilities below this are rounding.
_TINY = 1e-7
# The mean log-likelihood of a pixel is this near to its maximum: thousands of pixels cannot tell such fractions apart.
_STEPS, _TOLERANCE = 300, 1e-7


def fitted_temperature(probabilities: NDArray[np.float64], labels: NDArray[np.uint8]) -> float:
    """The temperature that makes probabilities fit held-out labels best: the least log loss (Guo et al. 2017, section 4.2).

    The log loss is convex in 1 / temperature, so that there is one minimum.

    Args:
        probabilities: of each phase, float64 (N, P), 0-1; rows add up to 1.
        labels: true phase of each row, uint8 (N,).

    Returns:
        The temperature, from 0.05 to 20; above 1 where the probabilities are too sure.

    Raises:
        ValueError: no row, or another number of labels.
    """
    if len(probabilities) == 0 or len(probabilities) != len(labels):
        raise ValueError(f"{len(probabilities)} probabilities for {len(labels)} labels")
    from scipy.optimize import minimize_scalar

    logs = np.log(np.maximum(probabilities, _TINY))
    of_truth = logs[np.arange(len(labels)), labels]

    def log_loss(log_temperature: float) -> float:
        scale = math.exp(-log_temperature)
        return float((np.log(np.exp(scale * logs).sum(1)) - scale * of_truth).mean())

    found = minimize_scalar(log_loss, bounds=(math.log(_LEAST), math.log(_MOST)), method="bounded")
    return math.exp(float(found.x))


def tempered(probabilities: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Probabilities at another temperature: their logarithms over the temperature, normalised (Guo et al. 2017).

    Args:
        probabilities: float64 (N, P), 0-1.
        temperature: above 0; 1 changes nothing.

    Returns:
        float64 (N, P); rows add up to 1.
    """
    powers = np.maximum(probabilities, _TINY) ** (1 / temperature)
    return np.asarray(powers / powers.sum(1, keepdims=True))


def shifted_fractions(probabilities: NDArray[np.float64], known: NDArray[np.float64]) -> NDArray[np.float64]:
    """The fractions that make probabilities of pixels most likely: EMQ (Saerens, Latinne and Decaestecker 2002).

    Expectation and maximisation in turn: each pixel's probabilities are weighted by the ratio of the new fractions to the known
    ones, and their mean is the next estimate. It is the maximum of the likelihood where phases look as they did, and only their
    fractions have changed (label shift). Probabilities must be calibrated; `fitted_temperature` does that. Own code: the
    libraries of quantification (QuaPy and others) wrap this loop in classifiers of their own and bring scikit-learn. It ends by
    the duality gap of the concave likelihood over the simplex (Frank and Wolfe 1956), not by the length of a step: where a
    fraction goes to zero, steps are short long before the end.

    Args:
        probabilities: of each phase under the known fractions, float64 (N, P), 0-1; rows add up to 1.
        known: fractions that the probabilities were calibrated with, float64 (P,): the mean probabilities of the fields of the
            calibration (Alexandari, Kundaje and Shrikumar 2020). With them, these fields get just these fractions.

    Returns:
        float64 (P,), 0-1, which add up to 1.

    Raises:
        ValueError: no pixel, or another number of phases.
    """
    if len(probabilities) == 0 or probabilities.shape[1] != len(known):
        raise ValueError(f"probabilities of shape {probabilities.shape} for {len(known)} phases")
    before = np.maximum(known, _TINY)
    fractions = before / before.sum()
    for _ in range(_STEPS):
        first = _following(fractions, probabilities, before)
        second = _following(first, probabilities, before)
        # The ratio of a step is the gradient of the log-likelihood, which is concave: the gain that is left is below this.
        if float((second / first).max()) - 1 < _TOLERANCE:
            break
        fractions = _following(_ahead(fractions, first, second, probabilities / before), probabilities, before)
    return np.asarray(second / second.sum())


def _following(
    fractions: NDArray[np.float64], probabilities: NDArray[np.float64], before: NDArray[np.float64]
) -> NDArray[np.float64]:
    """One step of expectation and maximisation."""
    weights = fractions / before
    return np.asarray(weights * (probabilities.T @ (1 / (probabilities @ weights))) / len(probabilities))


def _ahead(
    start: NDArray[np.float64], first: NDArray[np.float64], second: NDArray[np.float64], ratios: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Where two steps lead, continued, since steps alone are slow (SQUAREM; Varadhan and Roland 2008, Scand. J. Stat. 35, 335).

    ratios: probabilities over the known fractions, float64 (N, P). The second step stays where the likelihood would fall.
    """
    step, bend = first - start, second - 2 * first + start
    size = math.sqrt(float(bend @ bend))
    if size < _TINY:
        return second
    length = -max(1.0, math.sqrt(float(step @ step)) / size)
    far = start - 2 * length * step + length**2 * bend
    if (far <= 0).any() or np.log(ratios @ far).mean() < np.log(ratios @ second).mean():
        return second
    return np.asarray(far)


def largest_disagreement(estimates: NDArray[np.float64]) -> float:
    """How far estimates of the same fractions are apart, at most, over the phases.

    Args:
        estimates: each in a row, float64 (E, P), 0-1.

    Returns:
        0-1.
    """
    return float(np.ptp(estimates, axis=0).max())
