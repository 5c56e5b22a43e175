"""A float32 engine against torch, tile by tile: probabilities, labels and area fractions, for the bag and each fold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microseg.agreement.check_table import CheckTable
from microseg.agreement.labels import compare_labels
from microseg.core.schemas.fidelity import FoldParity
from microseg.core.schemas.tolerance import LIMITS

# float32 against float32: another order of summation explains this much.
MAX_PROBABILITY_DIFFERENCE = 2e-3

BAG = -1


class TilePair(NamedTuple):
    """One tile computed by torch and by the engine.

    Attributes:
        torch: each fold's probabilities by torch, float32 (1, P, H, W).
        labels: the engine's labels of the bag, uint8 (H, W).
        votes: the engine's labels of the folds, uint8 (F, H, W).
        probability: the engine's mean probability, float32 (P, H, W).
        fold_probabilities: the engine's probability of each fold, float32 (F, P, H, W).
    """

    torch: list[NDArray[np.float32]]
    labels: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    probability: NDArray[np.float32]
    fold_probabilities: NDArray[np.float32]


def torch_parity(pairs: Sequence[TilePair], phases: Sequence[str]) -> list[FoldParity]:
    """Compare an engine with torch.

    Args:
        pairs: the tiles, computed both ways.
        phases: names of the phases, by index.

    Returns:
        One entry for the bag (fold -1), then one for each fold, pooled over all tiles.
    """
    parities = []
    for fold in (BAG, *range(len(pairs[0].torch))):
        ours = [pair.labels if fold == BAG else pair.votes[fold] for pair in pairs]
        soft = [pair.probability if fold == BAG else pair.fold_probabilities[fold] for pair in pairs]
        wanted = [(np.mean(pair.torch, axis=0) if fold == BAG else pair.torch[fold])[0] for pair in pairs]
        theirs = [probability.argmax(0).astype(np.uint8) for probability in wanted]
        seen = compare_labels(ours, theirs, len(phases))
        parities.append(
            FoldParity(
                fold=fold,
                # numpy's maximum keeps a value that is not a number wherever it stands; Python's loses it.
                max_probability_difference=float(
                    np.max([np.abs(a - b).max() for a, b in zip(soft, wanted, strict=True)])
                ),
                label_disagreement=seen.labels,
                fraction_difference_points=dict(zip(phases, seen.points, strict=True)),
            )
        )
    return parities


def parity_table(parities: Sequence[FoldParity]) -> CheckTable:
    """The checks of a float32 engine against torch.

    Args:
        parities: what `torch_parity` found.

    Returns:
        A table with the probability, the labels and the area fraction of each phase, for the bag and each fold.
    """
    limit = LIMITS["fp32"]
    table = CheckTable(list(parities[0].fraction_difference_points), limit)
    for parity in parities:
        who = "the bag" if parity.fold == BAG else f"fold {parity.fold}"
        difference, largest = parity.max_probability_difference, MAX_PROBABILITY_DIFFERENCE
        table.measure(f"{who}: probability difference", difference, largest, f"{difference:.3g}", f"{largest:g}")
        table.labels(f"{who}: labels that differ", parity.label_disagreement)
        for phase, points in parity.fraction_difference_points.items():
            table.fraction(f"{who}: fraction of {phase}", phase, points, limit.points)
    return table
