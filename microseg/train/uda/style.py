"""Style transfer from target to source tiles: radial amplitude spectrum (sharpness and noise) and mean grey value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

_WINDOW_PX, _BANDS = 64, 24
_PAD_PX = 16
# A filter that amplifies more than this turns compression artefacts into noise.
_MOST = 4.0


@dataclass(frozen=True)
class Style:
    """The difference of two domains in style.

    log_gain: Log of the amplitude ratio, target over source, (bands,) from 0 to 0.5 cycles/px.
    mean_source, mean_target: Mean grey values.
    """

    log_gain: NDArray[np.float64]
    mean_source: float
    mean_target: float

    @classmethod
    def between(
        cls,
        source: Sequence[NDArray[np.uint8]],
        target: Sequence[NDArray[np.uint8]],
        weights: NDArray[np.float64] | None = None,
    ) -> Style:
        """The difference between two domains.

        Args:
            source: Source fields uint8 (h, w).
            target: Target fields, or cuts of them, uint8 (h, w).
            weights: Weights (n,) of the target's images; None for equal ones.
        """
        gain = (radial_spectrum(target, weights) - radial_spectrum(source)).clip(-np.log(100), np.log(_MOST))
        means = [
            float(np.average([image.mean() for image in images], weights=by))
            for images, by in ((source, None), (target, weights))
        ]
        return cls(gain, *means)

    def carried_over(self, tiles: Tensor, strengths: Tensor) -> Tensor:
        """Move tiles towards the target's style. The phases of the spectrum stay, and so do the labels.

        Args:
            tiles: Source tiles, float 0-255 (N, 1, S, S).
            strengths: Part of the way for each tile, (N,), 0 to 1.
        """
        if not bool(strengths.any()):
            return tiles
        padded = F.pad(tiles, [_PAD_PX] * 4, mode="reflect")
        height, width = padded.shape[-2:]
        radius = torch.hypot(torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]).clamp(max=0.5)
        gain = np.interp(radius.numpy(), np.linspace(0, 0.5, _BANDS), self.log_gain)
        part = strengths.to(tiles.device).view(-1, 1, 1, 1)
        factor = torch.exp(part * torch.from_numpy(gain).float().to(tiles.device))
        mean = padded.mean((2, 3), keepdim=True)
        moved = torch.fft.irfft2(torch.fft.rfft2(padded - mean) * factor, s=(height, width))
        moved = moved + mean + part * (self.mean_target - self.mean_source)
        inner: Tensor = moved[..., _PAD_PX:-_PAD_PX, _PAD_PX:-_PAD_PX].clamp(0, 255)
        return inner


def radial_spectrum(
    images: Sequence[NDArray[np.uint8]], weights: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Log amplitude by radial frequency, by Welch's method with Hann windows.

    Args:
        images: uint8 (h, w).
        weights: Weight (n,) of every window of an image; None for equal ones.

    Returns:
        float64 (bands,), from 0 to 0.5 cycles/px.
    """
    window = np.outer(np.hanning(_WINDOW_PX), np.hanning(_WINDOW_PX))
    total, count = np.zeros((_WINDOW_PX, _WINDOW_PX // 2 + 1)), 0.0
    for image, weight in zip(images, np.ones(len(images)) if weights is None else weights, strict=True):
        height, width = image.shape
        pad = [(0, max(0, _WINDOW_PX - height)), (0, max(0, _WINDOW_PX - width))]
        grey = np.pad(image, pad, mode="symmetric").astype(np.float64)
        for top in range(0, grey.shape[0] - _WINDOW_PX + 1, _WINDOW_PX // 2):
            for left in range(0, grey.shape[1] - _WINDOW_PX + 1, _WINDOW_PX // 2):
                cut = grey[top : top + _WINDOW_PX, left : left + _WINDOW_PX]
                total += weight * np.abs(np.fft.rfft2((cut - cut.mean()) * window)) ** 2
                count += float(weight)
    power = total / count
    radius = np.hypot(np.fft.fftfreq(_WINDOW_PX)[:, None], np.fft.rfftfreq(_WINDOW_PX)[None])
    places = np.rint(radius.clip(max=0.5) / 0.5 * (_BANDS - 1)).astype(int)
    sums = np.bincount(places.ravel(), power.ravel(), _BANDS) / np.maximum(
        np.bincount(places.ravel(), minlength=_BANDS), 1
    )
    sums[0] = sums[1]  # the window leaks into this band, and the mean is removed
    return np.asarray(0.5 * np.log(np.maximum(sums, 1e-6)))
