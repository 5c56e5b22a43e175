"""Losses on the core of a tile; pixels labelled 255 count in none."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from microseg.core.domains.phases import UNLABELLED


def core_of(logits: Tensor, core_px: int) -> Tensor:
    """The centred core (N, P, core, core) of logits (N, P, S, S)."""
    start = (logits.shape[-1] - core_px) // 2
    return logits[..., start : start + core_px, start : start + core_px]


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """Mean cross-entropy of logits (N, P, H, W) and labels int64 (N, H, W), weighted per phase (P,)."""
    loss = F.cross_entropy(logits, labels, weights, ignore_index=UNLABELLED, reduction="sum")
    return loss / mass(labels, weights).clamp(min=1)


def mass(labels: Tensor, weights: Tensor | None) -> Tensor:
    """What `cross_entropy` divides by: the summed weights of the labelled pixels, a number."""
    known = labels != UNLABELLED
    return weights[labels[known]].sum() if weights is not None else known.sum().float()


def soft_dice(logits: Tensor, labels: Tensor, pooled: Callable[[Tensor], Tensor] = lambda sums: sums) -> Tensor:
    """1 - mean soft Dice over the phases that occur in the batch (Milletari et al. 2016).

    pooled: adds up the sums of processes that share the batch.
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
    """Focal loss (Lin et al. 2017): cross-entropy times (1 - probability of the truth) ** gamma."""
    loss = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="none")
    known = labels != UNLABELLED
    return ((1 - torch.exp(-loss)) ** gamma * loss).sum() / known.sum().clamp(min=1)
