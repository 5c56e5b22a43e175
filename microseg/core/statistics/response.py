"""The response of an engine: the fractions that it finds as a linear function of the true ones, from labelled fields."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.statistics.validation_sample import ValidationSample, count_covariance

# Standard deviation of the slope of the error that is assumed before any field is labelled. Engines on other etchants have
# slopes of found on true between 0.6 and 1.
SLOPE_SPREAD = 0.2
# The same where the networks learned from the domain of the labelled fields. Where a share FNR of the phase and FPR of the rest
# are found wrong, the slope of the error is -(FPR + FNR) at the steepest, and less because errors lie at boundaries. Networks
# on held-out fields of their own domain have sums of about 0.1 (0.03 to 0.16 over the phases of the superalloy and of
# synthetic steel): two standard deviations.
HOME_SLOPE_SPREAD = 0.05
# Standard deviation of the error of one field that is assumed for the choice between line and constant, and for nothing else.
FIELD_SPREAD = 0.03
# A field that alone decides a slope has no residual: its leverage counts as this much at most.
_MOST_LEVERAGE = 0.98


@dataclass(frozen=True)
class Response:
    """found = matrix @ true, for the means of a section, with what is known of its uncertainty.

    A line is a constant and slopes: the errors of the labelled fields on K = 1 + P columns, 1 and their centred true fractions.

    Attributes:
        matrix: share of each true phase (column) that is found as each phase (row), float64 (P, P); columns add up to 1.
        centre: mean of the true fractions of the labelled fields, float64 (P,).
        weights: how much of the slopes is taken from the fields, float64 (P, P): the identity on differences of fractions is
            the line, 0 the constant correction.
        slopes: slopes of the errors (rows) on the true fractions (columns) that the fields show, shrunk as those of an engine
            of which nothing else is known, float64 (P, P).
        slope_spread: standard deviation of the slopes that is assumed before any field is labelled.
        groups: number of independent groups G.
        scatter: contribution of each group to the line, float64 (G, K, P).
    """

    matrix: NDArray[np.float64]
    centre: NDArray[np.float64]
    weights: NDArray[np.float64]
    slopes: NDArray[np.float64]
    slope_spread: float
    groups: int
    scatter: NDArray[np.float64]
    _design: _Design

    def variance(self, functional: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
        """Variance of a functional of the found fractions that comes from the labelled fields (CR2; Bell and McCaffrey 2002).

        Args:
            functional: float64 (P,).
            true: true fractions of the section, float64 (P, k).

        Returns:
            float64 (k,).
        """
        return np.asarray((((self.scatter @ functional) @ self._at(true)) ** 2).sum(0))

    def degrees(self, true: NDArray[np.float64]) -> float:
        """Degrees of freedom of `variance` by Satterthwaite (Bell and McCaffrey 2002), as if all fields vary alike.

        Args:
            true: true fractions of the section, float64 (P,).
        """
        return self._design.degrees(self._at(true[:, None])[:, 0])

    def slope_variance(self, functional: NDArray[np.float64], true: NDArray[np.float64]) -> NDArray[np.float64]:
        """Variance of the same that comes from slopes which the fields cannot show: the shrunk part.

        How large it may be is the larger of what is assumed beforehand (`slope_spread`) and of what the fields show of their
        slopes: of an engine that finds the same in every field, a small part of the slope is still far from what is assumed.

        Args:
            functional: float64 (P,).
            true: true fractions of the section, float64 (P, k).

        Returns:
            float64 (k,).
        """
        away = true - self.centre[:, None]
        missed = away - self.weights @ away
        centred = functional - functional.mean()
        assumed = self.slope_spread**2 * (centred @ centred) * (missed**2).sum(0)
        return np.asarray(np.maximum(assumed, (functional @ self.slopes @ missed) ** 2))

    def _at(self, true: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.concatenate([np.ones((1, true.shape[1])), true - self.centre[:, None]])


@dataclass(frozen=True)
class _Design:
    """The regression of the errors; its hat matrix is H = columns @ inverse @ columns.T.

    Attributes:
        columns: float64 (m, K).
        inverse: inverse of their moments, float64 (K, K).
        group: group of each field, int64 (m,).
        groups: number of groups.
    """

    columns: NDArray[np.float64]
    inverse: NDArray[np.float64]
    group: NDArray[np.int64]
    groups: int

    def adjusted(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """(I - H_gg)^(-1/2) of every group times its values, float64 (m, k)."""
        out = values.copy()
        spread = self.columns @ self.inverse
        alone = np.bincount(self.group, minlength=self.groups)[self.group] == 1
        leverage = np.minimum((spread * self.columns).sum(1)[alone], _MOST_LEVERAGE)
        out[alone] /= np.sqrt(1 - leverage)[:, None]
        for group in np.unique(self.group[~alone]):
            of = self.group == group
            # H_gg has rank K at most: its eigenvectors come from a K x K matrix.
            vectors, leverages, _ = np.linalg.svd(
                self.columns[of] @ np.linalg.cholesky(self.inverse), full_matrices=False
            )
            factors = 1 / np.sqrt(1 - np.minimum(leverages**2, _MOST_LEVERAGE)) - 1
            out[of] += vectors @ (factors[:, None] * (vectors.T @ values[of]))
        return out

    def by_group(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sums over the fields of each group, float64 (G, ...)."""
        out = np.zeros((self.groups, *values.shape[1:]))
        np.add.at(out, self.group, values)
        return out

    def degrees(self, at: NDArray[np.float64]) -> float:
        """Satterthwaite's degrees of freedom of the variance at a point of the line (K,)."""
        weights = self.adjusted((self.columns @ (self.inverse @ at))[:, None])[:, 0]
        own = self.by_group(weights**2)
        moved = self.by_group(weights[:, None] * self.columns)
        moments = self.columns.T @ self.columns
        middle = self.inverse @ moments @ self.inverse - 2 * self.inverse
        shared = moved @ middle
        diagonal = own + (shared * moved).sum(1)
        product = middle @ (moved.T @ moved)
        squares = (own**2).sum() + 2 * (own * (shared * moved).sum(1)).sum() + np.trace(product @ product)
        return float(diagonal.sum() ** 2 / squares) if squares > 0 else 0.0


def fit_response(validation: ValidationSample) -> Response:
    """Fit the response to labelled fields by least squares, shrunk towards a constant correction.

    The found fractions are a line in the true ones: found = FPR (1 - f) + TPR f for two phases. The line is fitted to the
    fields, not pooled from their pixels: errors lie at boundaries, so that the share of a phase that is missed falls with its
    fraction, and pooled shares give too flat a line. Ridge regression (Hoerl and Kennard 1970) of the errors on the centred
    true fractions shrinks the slopes. The ridge is (`FIELD_SPREAD` / `SLOPE_SPREAD`)^2, or that of `HOME_SLOPE_SPREAD` for a
    cross-validation, so that kind, range and number of the fields decide, never what was found; with few groups it rises until
    half of the degrees of freedom are left. Manual counts are noisy regressors: their variance is taken out of the moments
    (Fuller 1987, section 2.2).

    Args:
        validation: labelled fields; at least one.
    """
    true, errors = validation.true, validation.found - validation.true
    centre, phases = true.mean(0), true.shape[1]
    noise = np.zeros((phases, phases))
    for field in np.flatnonzero(np.isfinite(validation.points)):
        noise += count_covariance(true[field], float(validation.points[field]))
    columns = np.column_stack([np.ones(len(true)), true - centre])
    names, group = np.unique(np.array(validation.groups), return_inverse=True)
    values, vectors = np.linalg.eigh(columns[:, 1:].T @ columns[:, 1:] - noise)
    values = np.maximum(values, 0)
    spread = HOME_SLOPE_SPREAD if validation.at_home else SLOPE_SPREAD
    ridge, usual = (_ridge(values, len(names), each) for each in (spread, SLOPE_SPREAD))
    inverse = np.zeros((1 + phases, 1 + phases))
    inverse[0, 0] = 1 / len(true)
    inverse[1:, 1:] = (vectors / (values + ridge)) @ vectors.T
    weights = (vectors * (values / (values + ridge))) @ vectors.T
    products = columns.T @ errors
    products[1:] += noise
    line = inverse @ products
    shown = (vectors / (values + usual)) @ vectors.T @ products[1:]
    design = _Design(columns, inverse, group, len(names))
    adjusted = design.adjusted(errors - columns @ line)
    scatter = design.by_group((columns @ inverse)[:, :, None] * adjusted[:, None, :])
    slopes = line[1:].T
    matrix = np.eye(phases) + slopes + (line[0] - slopes @ centre)[:, None]
    return Response(
        matrix=matrix,
        centre=centre,
        weights=weights,
        slopes=shown.T,
        slope_spread=spread,
        groups=len(names),
        scatter=scatter,
        _design=design,
    )


def _ridge(values: NDArray[np.float64], groups: int, slope_spread: float) -> float:
    """The ridge for moments with these eigenvalues. It leaves at least half of the degrees of freedom to the scatter."""
    # A difference d of one fraction is a vector of length sqrt(2) d for two phases: hence the factor.
    ridge = 2 * (FIELD_SPREAD / slope_spread) ** 2
    most = max(groups - 1, 1e-6) / 2
    while (values / (values + ridge)).sum() > most:
        ridge *= 1.1
    return ridge
