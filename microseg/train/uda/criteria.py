"""How good a network is on a target without one label: agreement with itself, certainty, neighbourhoods."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.evaluation.metrics import confusion_matrix, mean_iou

Image = NDArray[np.uint8]
Probability = NDArray[np.float32]
Predict = Callable[[Image], Probability]

# Whole fields cost seconds; the middle of a few says the same of a network.
VIEWS, VIEW_PX = 4, 448
SAMPLES = 800
# Of the soft neighbours' similarities (Saito et al. 2021).
TEMPERATURE = 0.05
NAMES = ("flips", "photometric", "certainty", "information", "density")


@dataclass(frozen=True)
class Observed:
    """Criteria of a network on target views, each the better the higher, and the phase fractions it finds there (P,).

    flips, photometric: mIoU of its labels with those of the flipped or relit view. certainty: 1 - mean normalised entropy.
    information: that of the mean map less the mean entropy, over log P (Bridle et al. 1992). density: soft neighbourhood
    density (Saito et al. 2021), less its largest value, log N.
    """

    flips: float
    photometric: float
    certainty: float
    information: float
    density: float
    fractions: list[float]


def views(images: Sequence[Image], stride: int) -> list[Image]:
    """The middles of a few fields, evenly chosen, each with sides that `stride` divides."""
    chosen = np.unique(np.linspace(0, len(images) - 1, min(VIEWS, len(images))).round().astype(int))
    cuts = []
    for index in chosen:
        image = images[index]
        height, width = (max(stride, min(side, VIEW_PX) // stride * stride) for side in image.shape)
        if min(image.shape) < stride:
            image = np.pad(
                image, [(0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1]))], mode="reflect"
            )
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        cuts.append(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return cuts


def observe(
    predict: Predict,
    cuts: Sequence[Image],
    phases: int,
    upright: bool = False,
    maps: Sequence[Probability] | None = None,
) -> Observed:
    """All criteria of `predict`, which gives float32 (P, h, w) for a view uint8 (h, w).

    upright: left-right flips alone. maps: what `predict` gives for the views as they are, where that is known.
    """
    maps = [predict(view) for view in cuts] if maps is None else maps
    labels = [soft.argmax(0).astype(np.uint8) for soft in maps]
    flipped, relit = [], []
    for view, label in zip(cuts, labels, strict=True):
        for axis in (1,) if upright else (0, 1):
            again = np.flip(predict(np.ascontiguousarray(np.flip(view, axis))), axis + 1).argmax(0)
            flipped.append(confusion_matrix(label, again.astype(np.uint8), phases))
        relit += [
            confusion_matrix(label, predict(other).argmax(0).astype(np.uint8), phases) for other in relit_views(view)
        ]
    stacked = np.concatenate([soft.reshape(phases, -1) for soft in maps], axis=1).astype(np.float64)
    mean = stacked.mean(1)
    entropy = float(-(stacked * np.log(np.maximum(stacked, 1e-8))).sum(0).mean() / math.log(phases))
    of_mean = float(-(mean * np.log(np.maximum(mean, 1e-8))).sum() / math.log(phases))
    counts = np.bincount(np.concatenate([label.ravel() for label in labels]), minlength=phases)
    return Observed(
        flips=agreement(flipped),
        photometric=agreement(relit),
        certainty=1 - entropy,
        information=of_mean - entropy,
        density=soft_neighbourhood_density(stacked.T),
        fractions=(counts / counts.sum()).tolist(),
    )


def relit_views(view: Image) -> list[Image]:
    """The view with another contrast curve, and out of focus: what another day at the microscope does to it."""
    curve = (255 * (np.arange(256) / 255) ** 1.3).astype(np.uint8)
    mean = float(view.mean())
    softened = cv2.GaussianBlur(view, (0, 0), 0.8)
    return [curve[view], np.clip(1.15 * (softened.astype(np.float32) - mean) + mean, 0, 255).astype(np.uint8)]


def agreement(confusions: Sequence[NDArray[np.int64]]) -> float:
    """MIoU of pooled confusions of two labellings: it falls when a rare phase comes and goes, where accuracy does not."""
    return mean_iou(np.sum(confusions, axis=0))


def fold_agreement(labels: Sequence[Sequence[NDArray[np.uint8]]], phases: int) -> float:
    """Mean mIoU between the labels of every pair of folds, on the same views."""
    pairs = [
        agreement([confusion_matrix(a, b, phases) for a, b in zip(one, other, strict=True)])
        for one, other in combinations(labels, 2)
    ]
    return float(np.mean(pairs)) if pairs else 1.0


def soft_neighbourhood_density(points: NDArray[np.float64]) -> float:
    """Entropy of the soft neighbours of sampled points (N, P), less log N (Saito et al. 2021); 0 where all are alike."""
    rng = np.random.default_rng(0)
    chosen = points[rng.choice(len(points), min(SAMPLES, len(points)), replace=False)]
    unit = chosen / np.linalg.norm(chosen, axis=1, keepdims=True)
    similarity = unit @ unit.T / TEMPERATURE
    np.fill_diagonal(similarity, -np.inf)
    similarity -= similarity.max(1, keepdims=True)
    soft = np.exp(similarity)
    soft /= soft.sum(1, keepdims=True)
    entropy = -(soft * np.log(np.maximum(soft, 1e-12))).sum(1).mean()
    return float(entropy - math.log(len(chosen) - 1))
