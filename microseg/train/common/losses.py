"""Losses on the core of a tile. Pixels labelled 255 count in none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microseg.core.domains.phases import UNLABELLED
from microseg.train.common.datasets import LabelledField, phase_frequencies
from microseg.train.common.parallel.ranks import ALONE, Ranks
from microseg.train.common.recipe import CrossEntropy, Focal, Recipe


class BatchShare(NamedTuple):
    """The part of a batch that a micro-batch is.

    labelled: of the labelled pixels of all ranks, weighted. tiles: of this rank's tiles.
    """

    labelled: Tensor | float
    tiles: float


# A few labelled pixels of a common phase may weigh less than one. Without a labelled pixel the loss is 0.
SMALLEST_MASS = 1e-12

WHOLE_BATCH = BatchShare(1.0, 1.0)


def segmentation_loss(
    config: CrossEntropy | Focal,
    logits: Tensor,
    labels: Tensor,
    weights: Tensor | None,
    share: BatchShare = WHOLE_BATCH,
    ranks: Ranks = ALONE,
) -> Tensor:
    """The recipe's loss of a batch, or a micro-batch's share of it.

    Args:
        config: The recipe's `loss`.
        logits: Float (N, P, H, W).
        labels: int64 (N, H, W), 255 where unlabelled.
        weights: Weights of the phases (P,), or None.
        share: The part of the batch that is given.
        ranks: Processes that share the batch.

    Returns:
        A number. The numbers of all micro-batches, averaged over the ranks, add up to the batch's loss.
    """
    match config:
        case CrossEntropy(dice=dice):
            loss = share.labelled * cross_entropy(logits, labels, weights)
            return loss + share.tiles * dice * soft_dice(logits, labels, ranks.total) if dice else loss
        case Focal(gamma=gamma):
            return share.labelled * focal(logits, labels, gamma)


def phase_weights(recipe: Recipe, fields: Sequence[LabelledField], phases: int, device: torch.device) -> Tensor | None:
    """Weights (P,) of the phases in the recipe's loss: frequency ** -balance, mean 1. None where the loss has none."""
    if not isinstance(recipe.loss, CrossEntropy) or not recipe.loss.balance:
        return None
    weights = np.maximum(phase_frequencies(fields, phases), 1e-6) ** -recipe.loss.balance
    return torch.tensor(weights / weights.mean(), dtype=torch.float32, device=device)


def core_of(logits: Tensor, core_px: int) -> Tensor:
    """The centred core (..., core_px, core_px) of maps (..., S, S)."""
    start = (logits.shape[-1] - core_px) // 2
    return logits[..., start : start + core_px, start : start + core_px]


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Mean cross-entropy over the labelled pixels.

    Args:
        logits: Float (N, P, H, W).
        labels: int64 (N, H, W), 255 where unlabelled.
        weights: Weights of the phases (P,), or None.
    """
    loss = F.cross_entropy(logits, labels, weights, ignore_index=UNLABELLED, reduction="sum")
    return loss / labelled_mass(labels, weights).clamp(min=SMALLEST_MASS)


def labelled_mass(labels: Tensor, weights: Tensor | None) -> Tensor:
    """The denominator of `cross_entropy`: the sum of the weights of all labelled pixels."""
    known = labels != UNLABELLED
    return weights[labels[known]].sum() if weights is not None else known.sum().float()


def soft_dice(logits: Tensor, labels: Tensor, pooled: Callable[[Tensor], Tensor] = lambda sums: sums) -> Tensor:
    """1 - mean soft Dice over the phases that occur in the batch (Milletari et al. 2016).

    Args:
        logits: Float (N, P, H, W).
        labels: int64 (N, H, W), 255 where unlabelled.
        pooled: Adds up sums over the processes that share the batch.
    """
    known = (labels != UNLABELLED).unsqueeze(1)
    probability = logits.softmax(1) * known
    truth = F.one_hot(labels.where(labels != UNLABELLED, 0), logits.shape[1]).movedim(-1, 1) * known
    sums = [(probability * truth).sum((0, 2, 3)), (probability + truth).sum((0, 2, 3)), truth.sum((0, 2, 3)).float()]
    overlap, total, area = pooled(torch.stack(sums))
    present = area > 0
    dice = (2 * overlap + 1) / (total + 1)
    return 1 - dice[present].mean() if bool(present.any()) else logits.sum() * 0


def focal(logits: Tensor, labels: Tensor, gamma: float) -> Tensor:
    """Focal loss (Lin et al. 2017): cross-entropy times (1 - probability of the label) ** gamma.

    Args:
        logits: Float (N, P, H, W).
        labels: int64 (N, H, W), 255 where unlabelled.
        gamma: Focusing exponent.
    """
    loss = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="none")
    known = labels != UNLABELLED
    return ((1 - torch.exp(-loss)) ** gamma * loss).sum() / known.sum().clamp(min=1)
