"""Fractions that add up to one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_STEPS = 2000
_TOLERANCE = 1e-12


def solve_on_simplex(matrix: NDArray[np.float64], found: NDArray[np.float64]) -> NDArray[np.float64]:
    """The true fractions whose response is nearest to what was found, among fractions 0-1 that add up to 1.

    Least squares by projected gradients with Nesterov's momentum. Where the plain inverse is on the simplex, it is the answer.

    Args:
        matrix: response, float64 (P, P), columns add up to 1.
        found: found fractions, float64 (P,), which add up to 1.

    Returns:
        float64 (P,).
    """
    plain: NDArray[np.float64] = np.asarray(np.linalg.lstsq(matrix, found, rcond=None)[0], np.float64)
    if plain.min() >= 0 and abs(plain.sum() - 1) < 1e-9:
        return plain
    square, target = matrix.T @ matrix, matrix.T @ found
    step = 1 / np.linalg.eigvalsh(square)[-1]
    point = ahead = project_on_simplex(plain)
    momentum = 1.0
    for _ in range(_STEPS):
        before, point = point, project_on_simplex(ahead - step * (square @ ahead - target))
        following = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        ahead = point + (momentum - 1) / following * (point - before)
        momentum = following
        if np.abs(point - before).max() < _TOLERANCE:
            break
    return point


def project_on_simplex(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The nearest fractions 0-1 that add up to 1 (Duchi et al. 2008, figure 1).

    Args:
        values: float64 (P,).

    Returns:
        float64 (P,).
    """
    falling = np.sort(values)[::-1]
    excess = (np.cumsum(falling) - 1) / np.arange(1, len(values) + 1)
    return np.asarray(np.maximum(values - excess[falling > excess][-1], 0))
