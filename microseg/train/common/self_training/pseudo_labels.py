"""Pseudo-labels of a teacher, how much each pixel counts, and the changed tiles that a student learns them on.

Tiles are float 0-255, (N, 1, S, S).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from microseg.core.domains.phases import UNLABELLED
from microseg.train.common.augmentation import appearance
from microseg.train.common.recipe import ExtendedAugmentation


def pseudo_labels(probability: Tensor, phase_weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """Pseudo-labels of a teacher's probabilities.

    Args:
        probability: (N, P, H, W).
        phase_weights: Weights (P,) of the loss that the teacher learned by. Division by them gives the probabilities of an
            unweighted loss, so that rare phases are not inflated.

    Returns:
        Labels int64 (N, H, W), and confidence (N, H, W).
    """
    if phase_weights is not None:
        probability = probability / phase_weights.view(1, -1, 1, 1)
        probability = probability / probability.sum(1, keepdim=True)
    confidence, labels = probability.max(1)
    return labels, confidence


def pixel_weights(
    confidence: Tensor, threshold: float | Tensor, phases: int, weighting: Literal["image", "pixel"]
) -> Tensor:
    """Weights of pseudo-labelled pixels.

    Args:
        confidence: (N, H, W).
        threshold: Confidence from which a pixel counts in full: one for all, or (N, H, W).
        phases: Number of phases P.
        weighting: `image`: the share of pixels above the threshold in the image. `pixel`: 0 for confidence 1 / P, rising to 1
            at the threshold.

    Returns:
        0 to 1, (N, H, W).
    """
    if weighting == "image":
        share = (confidence >= threshold).float().mean((1, 2), keepdim=True)
        return share.expand_as(confidence)
    span = torch.as_tensor(threshold - 1 / phases, device=confidence.device).clamp(min=1e-6)
    return ((confidence - 1 / phases) / span).clamp(0, 1)


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """Cross-entropy weighted by pixel, over the number of labelled pixels.

    Args:
        logits: Float (N, P, H, W).
        labels: int64 (N, H, W), 255 where unlabelled.
        weights: (N, H, W).
    """
    loss = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="none")
    return (loss * weights).sum() / (labels != UNLABELLED).sum().clamp(min=1)


def hide_patches(tiles: Tensor, ratio: float, patch_px: int, generator: torch.Generator) -> Tensor:
    """Set a share of the patches of tiles to the tile's mean grey value (Hoyer et al. 2023).

    Args:
        tiles: The tiles.
        ratio: Share of the patches, 0-1.
        patch_px: Side of a patch.
        generator: Draws the patches.
    """
    count, _, height, width = tiles.shape
    rows, columns = math.ceil(height / patch_px), math.ceil(width / patch_px)
    hidden = torch.rand((count, 1, rows, columns), generator=generator).to(tiles.device) < ratio
    mask = hidden.repeat_interleave(patch_px, 2).repeat_interleave(patch_px, 3)[..., :height, :width]
    return torch.where(mask, tiles.mean((2, 3), keepdim=True), tiles)


def relighting(strength: float, seed: int) -> Callable[[Tensor], Tensor]:
    """The photometric changes of the extended augmentation, without its geometry.

    Args:
        strength: Factor on every change. 0 changes nothing.
        seed: Seed of the changes.

    Returns:
        A function of tiles float 0-255 (N, 1, S, S).
    """
    rng = np.random.default_rng(seed)
    pipeline = ExtendedAugmentation(strength=strength)

    def relight(tiles: Tensor) -> Tensor:
        if not strength:
            return tiles
        grey = tiles.round().clamp(0, 255).to(torch.uint8).cpu().numpy()[:, 0]
        changed = [appearance(pipeline, tile, np.full_like(tile, UNLABELLED), rng) for tile in grey]
        return torch.from_numpy(np.stack(changed)[:, None]).float().to(tiles.device)

    return relight
