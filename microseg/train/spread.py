"""How far a student's heads stand apart: as far as the folds that they reproduce, so that the report's spread stays."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from microseg.models.network import Network
from microseg.train.predict import predict_field
from microseg.train.teacher import Answer

# Heads learn what can be told apart by the features that they share, and lean towards their mean with the rest.
FACTORS = np.geomspace(0.5, 4.0, 25)


def spread_of(votes: NDArray[np.uint8], phases: int) -> NDArray[np.float64]:
    """Sample standard deviation (P,) of the area fractions by each fold's votes uint8 (F, h, w); 0 for a single fold."""
    shares = [np.bincount(vote.ravel(), minlength=phases)[:phases] / vote.size for vote in votes]
    return np.asarray(np.std(shares, axis=0, ddof=min(1, len(shares) - 1)))


def set_heads_apart(network: Network, fields: Sequence[Answer], halo_px: int) -> float:
    """Set the heads as far apart as makes their mean spread over `fields` that of the folds; returns the factor.

    The heads' mean logits stay, so the bag's decision does. Nothing changes where the folds do not differ.
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
