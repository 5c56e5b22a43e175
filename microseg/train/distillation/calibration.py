"""The calibration of a trained student: its heads get the folds' spread of fractions, and together the bag's fractions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from microseg.core.evaluation.fractions import phase_fractions
from microseg.models.network import Network
from microseg.train.common.prediction import predict_field
from microseg.train.distillation.teacher import TeacherPrediction

# The heads share their features, so that their logits tend to their mean and must be moved apart.
FACTORS = np.geomspace(0.5, 4.0, 25)
# Pixels that fractions are compared on, the largest addition to a logit, and passes over the phases.
_PIXELS, _MOST, _TURNS = 500_000, 2.0, 3


def spread_of(votes: NDArray[np.uint8], phases: int) -> NDArray[np.float64]:
    """Sample standard deviation (P,) of the area fractions over folds, from votes uint8 (F, h, w). 0 for a single fold."""
    shares = [phase_fractions(vote, phases) for vote in votes]
    return np.asarray(np.std(shares, axis=0, ddof=min(1, len(shares) - 1)))


def set_heads_apart(network: Network, fields: Sequence[TeacherPrediction], halo_px: int) -> float:
    """Move the logits of the heads away from their mean, so that their spread of fractions is that of the folds.

    The mean stays, and with it the labels of all heads together. Nothing changes where the folds do not differ.

    Args:
        network: The student.
        fields: Fields with the bag's predictions.
        halo_px: Halo of the tiles.

    Returns:
        The factor on the distance from the mean.
    """
    found, wanted = np.zeros(len(FACTORS)), 0.0
    for item in fields:
        soft, _ = predict_field([network.eval()], item.field.image, network.stride, halo_px)
        logits = np.log(np.maximum(soft, np.finfo(np.float32).tiny))
        mean = logits.mean(0)
        for place, factor in enumerate(FACTORS):
            votes = (mean + factor * (logits - mean)).argmax(1).astype(np.uint8)
            found[place] += spread_of(votes, network.phases).mean()
        wanted += float(spread_of(item.votes, network.phases).mean())
    if not wanted:
        return 1.0
    factor = float(FACTORS[np.abs(found - wanted).argmin()])
    network.set_apart(factor)
    return factor


def set_fractions(network: Network, fields: Sequence[TeacherPrediction], halo_px: int) -> NDArray[np.float64]:
    """Add a constant to the logits of each phase, so that the area fractions over all fields are the bag's.

    Without it a student, which has fewer weights than its bag, is biased by tenths of a point where boundaries are soft.

    Args:
        network: The student.
        fields: Fields with the bag's predictions.
        halo_px: Halo of the tiles.

    Returns:
        The constants (P,), the same for every head.
    """
    step = max(1, math.ceil(math.sqrt(sum(item.field.area_px for item in fields) / _PIXELS)))
    places = np.s_[..., ::step, ::step]
    soft = np.concatenate(
        [
            predict_field([network.eval()], item.field.image, network.stride, halo_px)[0][places].reshape(
                network.heads, network.phases, -1
            )
            for item in fields
        ],
        axis=2,
    )
    wanted = np.concatenate([item.field.labels[places].ravel() for item in fields])
    added = np.zeros(network.phases)
    for _ in range(_TURNS):
        for phase in range(1, network.phases):

            def apart(value: float, phase: int = phase) -> float:
                weights = np.exp(np.where(np.arange(network.phases) == phase, value, added)).astype(np.float32)
                raised = soft * weights[:, None]
                found = (raised / raised.sum(1, keepdims=True)).sum(0).argmax(0)
                pixels = abs(int(np.count_nonzero(found == phase)) - int(np.count_nonzero(wanted == phase)))
                return pixels + abs(value)  # the smallest of equally good constants

            best = minimize_scalar(apart, bounds=(-_MOST, _MOST), method="bounded", options={"xatol": 1e-3})
            if best.fun < apart(added[phase]):
                added[phase] = best.x
    network.add_to_logits(added.tolist())
    return added
