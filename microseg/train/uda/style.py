"""Source tiles that look as sharp, as noisy and as bright as the target: its radial spectrum, carried over in part."""

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
# A filter that amplifies more than this makes noise of compression artefacts.
_MOST = 4.0


@dataclass(frozen=True)
class Style:
    """Log of the amplitude ratio, target over source, (bands,) from frequency 0 to 0.5 cycles/px, and mean greys."""

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
        """From the fields of both domains, or cuts of them, uint8 (h, w); `weights` (n,) are those of the target's."""
        gain = (radial_spectrum(target, weights) - radial_spectrum(source)).clip(-np.log(100), np.log(_MOST))
        means = [
            float(np.average([image.mean() for image in images], weights=by))
            for images, by in ((source, None), (target, weights))
        ]
        return cls(gain, *means)

    def carried_over(self, tiles: Tensor, strengths: Tensor) -> Tensor:
        """Tiles float 0-255 (N, 1, S, S), each moved towards the target by its strength (N,), 0: as it is, 1: all the way.

        Amplitudes alone change, by radial frequency, and the mean grey; phases stay, and so do the labels.
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
    """Log amplitude (bands,) by radial frequency, 0 to 0.5 cycles/px: Welch's mean over Hann windows of all images.

    weights (n,): of every window of an image; by default all windows count alike.
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
    sums[0] = sums[1]  # the window's own leakage, and no mean
    return np.asarray(0.5 * np.log(np.maximum(sums, 1e-6)))
