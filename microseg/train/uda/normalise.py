"""Adaptation without training: grey curves for the target, and its own statistics in the batch normalisations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from microseg.models.network import Network
from microseg.train.common.datasets import ImagesOf, phase_frequencies
from microseg.train.common.prediction import predict_view
from microseg.train.common.run_folder import load_network
from microseg.train.uda.context import AdaptationContext
from microseg.train.uda.criteria import drifted, observe, self_consistency
from microseg.train.uda.recipe import Normalise

# The normalisations that `auto` compares before it trains anything.
NORMALISATIONS = [
    Normalise(intensity=intensity, statistics=share)
    for intensity in ("none", "standardise", "histogram")
    for share in (0.0, 0.5, 1.0)
    if intensity != "none" or share
]


def most_consistent_normalisation(context: AdaptationContext, drift: float) -> Normalise:
    """The normalisation with the highest self-consistency of the first fold, among those whose fractions have not drifted.

    drift: Factor by which phase fractions may leave those of the source and of the unadapted network.
    """
    phases, found = context.phases, []
    for method in (Normalise(statistics=0.0), *NORMALISATIONS):
        cuts = toned(context.target_views, tone_of(context, method))
        network = load_network(context.source, phases, context.weights(context.folds[0]))
        with_target_statistics(network, cuts, method.statistics)
        found.append(
            observe(lambda view, network=network: predict_view(network, view), cuts, phases, context.is_upright)  # type: ignore[misc]
        )
    references = [phase_frequencies(context.data.fields, phases).tolist(), found[0].fractions]
    scores = [self_consistency(asdict(seen)) - drifted(seen.fractions, references, drift) for seen in found[1:]]
    return NORMALISATIONS[int(np.argmax(scores))]


def title_of(method: Normalise) -> str:
    """A normalisation in words."""
    return f"intensity {method.intensity} with {100 * method.statistics:.0f} % of the target's statistics"


def tone_of(context: AdaptationContext, method: Normalise) -> tuple[int, ...] | None:
    """The grey curve (256) of a normalisation; None where it changes no grey values."""
    if method.intensity == "none":
        return None
    images = [ImagesOf(fields) for fields in (context.data.fields, context.target.fields)]
    return tuple(CURVES[method.intensity](*images))


def toned(cuts: Sequence[NDArray[np.uint8]], tone: tuple[int, ...] | None) -> list[NDArray[np.uint8]]:
    """Views uint8 (h, w) through a grey curve (256), or as they are."""
    return list(cuts) if tone is None else [np.array(tone, np.uint8)[cut] for cut in cuts]


def with_target_statistics(network: Network, cuts: Sequence[NDArray[np.uint8]], share: float) -> None:
    """Mix the running statistics of every batch normalisation, in place, with those of target views.

    This is AdaBN (Li et al. 2016) for a share of 1, and the mixture that Schneider et al. (2020) propose for few fields
    otherwise. The views pass as one batch, mirrored to the size of the largest, so that the variance holds the differences
    between fields.

    Args:
        network: The network. It is in evaluation mode afterwards.
        cuts: Target views uint8 (h, w).
        share: Share of the target's own statistics, 0-1.
    """
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    if not share or not norms:
        return
    kept = [(norm.running_mean.clone(), norm.running_var.clone(), norm.momentum) for norm in norms]  # type: ignore[union-attr]
    # A bottleneck of one pixel has no variance.
    height, width = np.max([cut.shape for cut in cuts], axis=0).clip(min=2 * network.stride)
    mirrored = [np.pad(cut, ((0, height - cut.shape[0]), (0, width - cut.shape[1])), "symmetric") for cut in cuts]
    together = torch.from_numpy(np.stack(mirrored)[:, None])
    network.eval()
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        network(together.to(next(network.parameters()).device))
    for norm, (mean, variance, momentum) in zip(norms, kept, strict=True):
        assert norm.running_mean is not None and norm.running_var is not None
        norm.running_mean.copy_(torch.lerp(mean, norm.running_mean, share))
        norm.running_var.copy_(torch.lerp(variance, norm.running_var, share))
        norm.momentum = momentum
    network.eval()


def histogram_curve(source: Sequence[NDArray[np.uint8]], target: Sequence[NDArray[np.uint8]]) -> list[int]:
    """Pooled histogram matching (Gonzalez and Woods).

    Args:
        source: Source fields uint8 (h, w).
        target: Target fields uint8 (h, w).

    Returns:
        The source's grey value for each of the target's 256.
    """
    shares = [np.cumsum(_pooled_histogram(images)).astype(np.float64) for images in (source, target)]
    ranks = [share / share[-1] for share in shares]
    return [int(value) for value in np.clip(np.searchsorted(ranks[0], ranks[1] - 1e-12), 0, 255)]


def standardising_curve(source: Sequence[NDArray[np.uint8]], target: Sequence[NDArray[np.uint8]]) -> list[int]:
    """The line that gives the target's pooled grey values the source's mean and standard deviation.

    Args:
        source: Source fields uint8 (h, w).
        target: Target fields uint8 (h, w).

    Returns:
        The new grey value for each of the target's 256.
    """
    (mean, std), (own_mean, own_std) = (_moments(_pooled_histogram(images)) for images in (source, target))
    curve = (np.arange(256) - own_mean) * (std / own_std) + mean
    return [int(value) for value in np.clip(np.rint(curve), 0, 255)]


def _pooled_histogram(images: Sequence[NDArray[np.uint8]]) -> NDArray[np.int64]:
    """Pixels of each grey value over all images, int64 (256,). One image at a time is in memory."""
    return np.asarray(np.sum([np.bincount(image.ravel(), minlength=256) for image in images], axis=0), np.int64)


def _moments(histogram: NDArray[np.int64]) -> tuple[float, float]:
    """Mean and standard deviation (at least 1) of the grey values of a histogram."""
    grey, total = np.arange(256), histogram.sum()
    mean = float((histogram * grey).sum() / total)
    return mean, max(float(np.sqrt((histogram * (grey - mean) ** 2).sum() / total)), 1.0)


CURVES: dict[str, Callable[[Sequence[NDArray[np.uint8]], Sequence[NDArray[np.uint8]]], list[int]]] = {
    "standardise": standardising_curve,
    "histogram": histogram_curve,
}
