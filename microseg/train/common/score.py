"""The score of a network on labelled fields: whole, stitched fields on the network's grid, pooled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.evaluation.metrics import confusion_matrix
from microseg.models.network import Network
from microseg.train.common.datasets import LabelledField
from microseg.train.common.parallel.ranks import ALONE, Ranks
from microseg.train.common.prediction import predict_field


@dataclass(frozen=True)
class Score:
    """Confusion of all fields together, int64 (P, P), and the bottleneck features of each, float32 (fields, D)."""

    confusion: NDArray[np.int64]
    features: NDArray[np.float32]


def score_network(network: Network, fields: Sequence[LabelledField], halo_px: int, ranks: Ranks = ALONE) -> Score:
    """Predict labelled fields and compare the labels.

    Args:
        network: Set to evaluation mode.
        fields: Fields that the network did not learn from.
        halo_px: Halo of the tiles.
        ranks: Processes that share the fields.

    Returns:
        The same score on every rank.
    """
    network.eval()
    mine = []
    for field in ranks.share(fields):
        probability, feature = predict_field([network], field.image, network.stride, halo_px)
        labels = probability[0].argmax(0).astype(np.uint8)
        mine.append((confusion_matrix(field.labels, labels, network.phases), feature[0]))
    confusions, features = zip(*ranks.gathered(mine, len(fields)), strict=True)
    return Score(np.sum(confusions, axis=0), np.stack(features))


def or_none(value: float) -> float | None:
    """The value, or None for NaN: an IoU that is undefined."""
    return None if math.isnan(value) else float(value)
