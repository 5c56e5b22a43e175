"""The gate of an export: the engine must say what torch says, per fold, for the bag, and for every phase's fraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import GateError
from microseg.core.schemas.fidelity import FoldParity

# float32 against float32: what another order of summation explains, and no more.
MAX_PROBABILITY_DIFFERENCE = 2e-3
MAX_LABEL_DISAGREEMENT = 2e-4
MAX_FRACTION_POINTS = 0.01

BAG = -1


class Pair(NamedTuple):
    """One tile, both ways.

    torch: the folds' probabilities, each float32 (1, P, H, W). labels (H, W), votes (F, H, W), probability (P, H, W) and
    fold_probabilities (F, P, H, W): the engine's.
    """

    torch: list[NDArray[np.float32]]
    labels: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    probability: NDArray[np.float32]
    fold_probabilities: NDArray[np.float32]


def compare(pairs: Sequence[Pair], phases: Sequence[str]) -> list[FoldParity]:
    """Parity of the bag (fold -1) and of each fold over all tiles, pooled."""
    parities = []
    for fold in (BAG, *range(len(pairs[0].torch))):
        ours = [pair.labels if fold == BAG else pair.votes[fold] for pair in pairs]
        soft = [pair.probability if fold == BAG else pair.fold_probabilities[fold] for pair in pairs]
        wanted = [(np.mean(pair.torch, axis=0) if fold == BAG else pair.torch[fold])[0] for pair in pairs]
        theirs = [probability.argmax(0).astype(np.uint8) for probability in wanted]
        # numpy's maximum keeps not-a-number wherever it stands; Python's loses it.
        difference = float(np.max([np.abs(a - b).max() for a, b in zip(soft, wanted, strict=True)]))
        pixels = sum(labels.size for labels in ours)
        wrong = sum(int((a != b).sum()) for a, b in zip(ours, theirs, strict=True))
        points = {
            name: 100 * abs(sum(int((a == i).sum()) - int((b == i).sum()) for a, b in zip(ours, theirs, strict=True)))
            / pixels
            for i, name in enumerate(phases)
        }  # fmt: skip
        parities.append(
            FoldParity(
                fold=fold,
                max_probability_difference=difference,
                label_disagreement=wrong / pixels,
                fraction_difference_points=points,
            )
        )
    return parities


def refuse_beyond_limits(parities: Sequence[FoldParity]) -> None:
    """Raise GateError that names the fold, the phase and the figure; not-a-number is beyond every limit."""
    for parity in parities:
        who = "the bag" if parity.fold == BAG else f"fold {parity.fold}"
        checks = [
            ("probability difference", parity.max_probability_difference, MAX_PROBABILITY_DIFFERENCE, ""),
            ("share of labels that differ", parity.label_disagreement, MAX_LABEL_DISAGREEMENT, ""),
            *(
                (f"fraction of {name}", points, MAX_FRACTION_POINTS, " points")
                for name, points in parity.fraction_difference_points.items()
            ),
        ]
        for what, value, limit, unit in checks:
            if not value <= limit:
                raise GateError(
                    f"the engine disagrees with torch for {who}: {what} {value:.3g}{unit}, limit {limit:g}{unit}. "
                    "Nothing was written. Remedy: check the run's weights for infinities, or other versions of torch "
                    "and onnxruntime."
                )
