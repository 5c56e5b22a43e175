"""The parts of adaptation methods: pure functions on output maps and tiles. Tiles are float 0-255, (N, 1, S, S)."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

SOURCE_LABEL, TARGET_LABEL = 0.0, 1.0


def domain_loss(logits: Tensor, label: float, kind: Literal["bce", "least_squares"]) -> Tensor:
    """The loss of a discriminator.

    Args:
        logits: Its logits.
        label: The label of all of them: `SOURCE_LABEL` or `TARGET_LABEL`.
        kind: Binary cross-entropy, or least squares (Mao et al. 2017).
    """
    truth = torch.full_like(logits, label)
    return F.binary_cross_entropy_with_logits(logits, truth) if kind == "bce" else F.mse_loss(logits, truth)


def entropy_maps(probability: Tensor) -> Tensor:
    """-p log p / log P of every phase, (N, P, H, W), of probabilities (N, P, H, W). The sum over the phases is 0 to 1."""
    return -probability * torch.log(probability.clamp(min=1e-8)) / math.log(probability.shape[1])


def mean_entropy(probability: Tensor) -> Tensor:
    """Mean normalised entropy, 0 to 1, of probabilities (N, P, H, W)."""
    return entropy_maps(probability).sum(1).mean()


def robust_entropy(probability: Tensor, eta: float) -> Tensor:
    """Mean Charbonnier penalty (H^2 + 1e-6)^eta of the entropy H (Yang and Soatto 2020). Confident pixels count less.

    Args:
        probability: (N, P, H, W).
        eta: Exponent.
    """
    return (entropy_maps(probability).sum(1) ** 2 + 1e-6).pow(eta).mean()


def swap_amplitude(source: Tensor, target: Tensor, beta: float) -> Tensor:
    """Give source tiles the target's amplitudes at low frequencies (Yang and Soatto 2020).

    Args:
        source: Source tiles.
        target: Target tiles.
        beta: Half-width of the swapped band over the tile's side.

    Returns:
        The changed source tiles, 0-255.
    """
    spectrum = torch.fft.fftshift(torch.fft.fft2(source), dim=(-2, -1))
    other = torch.fft.fftshift(torch.fft.fft2(target), dim=(-2, -1)).abs()
    height, width = source.shape[-2:]
    half = max(0, int(beta * min(height, width)))
    rows = slice(height // 2 - half, height // 2 + half + 1)
    columns = slice(width // 2 - half, width // 2 + half + 1)
    amplitude = spectrum.abs()
    amplitude[..., rows, columns] = other[..., rows, columns]
    mixed = torch.fft.ifft2(torch.fft.ifftshift(torch.polar(amplitude, spectrum.angle()), dim=(-2, -1)))
    restyled: Tensor = mixed.real.clamp(0, 255)
    return restyled


def coded(labels: Tensor, confidence: Tensor, phases: int) -> Tensor:
    """Code pseudo-labels and confidence (1 / P to 1) in one uint8 map, which a tile's geometry can turn. See `decoded`.

    Args:
        labels: int64.
        confidence: Of the labels' shape.
        phases: Number of phases P.
    """
    levels = 255 // phases
    level = ((confidence - 1 / phases) / (1 - 1 / phases) * (levels - 1)).round().clamp(0, levels - 1)
    return (labels * levels + level.long()).to(torch.uint8)


def decoded(codes: Tensor, phases: int) -> tuple[Tensor, Tensor]:
    """The labels int64 and the confidence of `coded` maps. The confidence has 255 // P steps."""
    levels = 255 // phases
    labels, level = codes.long() // levels, codes.long() % levels
    return labels, 1 / phases + level.float() / (levels - 1) * (1 - 1 / phases)


def thresholds_by_phase(labels: Tensor, confidence: Tensor, phases: int, highest: float) -> Tensor:
    """Confidence thresholds that differ by phase: the phase's mean confidence, at most `highest` (Zou et al. 2018).

    A phase that the teacher is never confident of, mostly a rare one, then counts as much as the others.

    Args:
        labels: Pseudo-labels int64 (N, H, W).
        confidence: (N, H, W).
        phases: Number of phases.
        highest: Largest threshold.

    Returns:
        A threshold for each pixel, (N, H, W).
    """
    counts = torch.bincount(labels.flatten(), minlength=phases).clamp(min=1)
    means = torch.bincount(labels.flatten(), confidence.flatten(), phases) / counts
    return means.clamp(max=highest)[labels]


def class_mix(labels: Tensor, phases: int, generator: torch.Generator) -> Tensor:
    """Choose the pixels that a mixed tile takes from its source tile: half of the phases that the source tile has.

    Args:
        labels: Labels (N, H, W) of source tiles. Unlabelled pixels (255) are never taken.
        phases: Number of phases. Of two phases one is taken.
        generator: Draws the phases.

    Returns:
        Bool (N, H, W).
    """
    masks = []
    for item in labels:
        present = [phase for phase in range(phases) if bool((item == phase).any())]
        chosen = torch.randperm(len(present), generator=generator)[: math.ceil(len(present) / 2)].tolist()
        mask = torch.zeros_like(item, dtype=torch.bool)
        for place in chosen:
            mask |= item == present[place]
        masks.append(mask)
    return torch.stack(masks)
