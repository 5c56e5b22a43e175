"""The gate of an export: the engine must say what torch says, per fold, for the bag, and for every phase's fraction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import GateError
from microseg.core.manifest import FoldParity

# float32 against float32: what another order of summation explains, and no more.
MAX_PROBABILITY_DIFFERENCE = 2e-3
MAX_LABEL_DISAGREEMENT = 2e-4
MAX_FRACTION_POINTS = 0.01

# (torch's probability of each fold (1, P, H, W), the engine's labels (H, W), votes (F, H, W), probability (P, H, W))
Pair = tuple[list[NDArray[np.float32]], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]
BAG = -1


def compare(pairs: Sequence[Pair], phases: Sequence[str]) -> list[FoldParity]:
    """Parity of the bag (fold -1) and of each fold over all tiles, pooled.

    A fold's probabilities are not an output, so its probability difference is the bag's.
    """
    folds = len(pairs[0][0])
    # numpy's maximum keeps not-a-number wherever it stands; Python's loses it.
    difference = float(np.max([np.abs(np.mean(torch, axis=0)[0] - p).max() for torch, _, _, p in pairs]))
    parities = []
    for fold in (BAG, *range(folds)):
        ours = [labels if fold == BAG else votes[fold] for _, labels, votes, _ in pairs]
        theirs = [
            (np.mean(torch, axis=0) if fold == BAG else torch[fold])[0].argmax(0).astype(np.uint8)
            for torch, _, _, _ in pairs
        ]
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
