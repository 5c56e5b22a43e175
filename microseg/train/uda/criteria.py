"""What tells how good a network is on a target without labels, which snapshot to take, and when it has collapsed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.evaluation.metrics import confusion_matrix, mean_iou
from microseg.train.uda.recipe import Method, SourceOnly

Image = NDArray[np.uint8]
Probability = NDArray[np.float32]
Predict = Callable[[Image], Probability]

# Whole fields take seconds. The middles of a few give the same ranking of networks.
VIEWS, VIEW_PX = 4, 448
SAMPLES = 800
# Temperature of the soft neighbours' similarities (Saito et al. 2021).
TEMPERATURE = 0.05
# Below these losses a discriminator is about 90 % sure of both domains, and below this entropy a map is of one phase: neither
# gives a gradient to learn from.
_WON, _COLLAPSED = {"bce": 0.1, "least_squares": 0.01}, 0.01
# Fractions as small as this change with single particles.
_SLACK = 0.002
# Octaves of grey detail, between the standard deviations of two Gaussians, px.
_OCTAVES_PX = ((0.0, 0.7), (0.7, 1.4), (1.4, 2.8), (2.8, 5.6), (5.6, 11.2))
# Pixels this near to a boundary are left out. Fewer pixels than this have no texture.
_EDGE_PX, _LEAST_PIXELS = 5, 500
# Least spreads over source fields: of the mean grey value, and of logarithms and skewness. Smaller ones are rounding.
_LEAST_SPREAD_GREY, _LEAST_SPREAD = 0.5, 0.02
# Fewer source fields have no spread.
LEAST_FIELDS = 4


@dataclass(frozen=True)
class Observed:
    """Criteria of a network on target views, and the phase fractions that it finds there. Higher criteria are better.

    flips, photometric: mIoU, 0-1, of its labels with those of the flipped views, and of the relit ones.
    certainty: 1 - mean entropy of the maps over log P, 0-1.
    information: Entropy of the mean map less the mean entropy, over log P (Bridle et al. 1992).
    density: Soft neighbourhood density (Saito et al. 2021) less its largest value, log N.
    fractions: Area fractions of the phases (P,), 0-1.
    """

    flips: float
    photometric: float
    certainty: float
    information: float
    density: float
    fractions: list[float]


def views(images: Sequence[Image], stride: int, most: int | None = None, most_px: int | None = None) -> list[Image]:
    """The middles of a few fields, evenly chosen.

    Args:
        images: Fields uint8 (h, w).
        stride: The network's stride, px.
        most: Number of fields, at most; None for `VIEWS`.
        most_px: Side of a view, at most; None for `VIEW_PX`.

    Returns:
        Views uint8, with sides that the stride divides.
    """
    count = min(VIEWS if most is None else most, len(images))
    chosen = np.unique(np.linspace(0, len(images) - 1, count).round().astype(int))
    cuts = []
    for index in chosen:
        image = images[index]
        height, width = (max(stride, min(side, most_px or VIEW_PX) // stride * stride) for side in image.shape)
        if min(image.shape) < stride:
            image = np.pad(
                image, [(0, max(0, height - image.shape[0])), (0, max(0, width - image.shape[1]))], mode="reflect"
            )
        top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
        cuts.append(np.ascontiguousarray(image[top : top + height, left : left + width]))
    return cuts


@dataclass(frozen=True)
class SeenView:
    """What a network, or a bag, says of one view and of its copies.

    soft: Probabilities float32 (P, h, w) of the view.
    flipped, relit: Confusions int64 (P, P) of its labels with those of the flipped copies, and of the relit ones.
    """

    soft: Probability
    flipped: list[NDArray[np.int64]]
    relit: list[NDArray[np.int64]]

    @property
    def flips(self) -> float:
        """Agreement with the flipped copies, mIoU, 0-1."""
        return agreement(self.flipped)

    @property
    def photometric(self) -> float:
        """Agreement with the relit copies, mIoU, 0-1."""
        return agreement(self.relit)


def observe(predict: Predict, cuts: Sequence[Image], phases: int, upright: bool = False) -> Observed:
    """Compute all criteria of a network on target views.

    Args:
        predict: Gives the probabilities float32 (P, h, w) of a view uint8 (h, w).
        cuts: The views.
        phases: Number of phases.
        upright: Flip left and right only.
    """
    seen = [
        seen_view(predict(cut), [(predict(other), axis) for other, axis in copies(cut, upright)], phases)
        for cut in cuts
    ]
    return observed(seen, phases)


def copies(view: Image, upright: bool = False) -> list[tuple[Image, int | None]]:
    """Copies of a view uint8 (h, w) that a consistent network labels alike: flipped, with the axis, and relit, with None."""
    flipped: list[tuple[Image, int | None]] = [
        (np.ascontiguousarray(np.flip(view, axis)), axis) for axis in ((1,) if upright else (0, 1))
    ]
    return [*flipped, *((other, None) for other in relit_views(view))]


def seen_view(soft: Probability, others: Sequence[tuple[Probability, int | None]], phases: int) -> SeenView:
    """Compare what is said of a view with what is said of its copies.

    Args:
        soft: Probabilities float32 (P, h, w) of the view.
        others: The same of each copy, with the axis that it is flipped about.
        phases: Number of phases.
    """
    labels = soft.argmax(0).astype(np.uint8)
    flipped: list[NDArray[np.int64]] = []
    relit: list[NDArray[np.int64]] = []
    for other, axis in others:
        again = (other if axis is None else np.flip(other, axis + 1)).argmax(0).astype(np.uint8)
        (relit if axis is None else flipped).append(confusion_matrix(labels, again, phases))
    return SeenView(soft, flipped, relit)


def observed(seen: Sequence[SeenView], phases: int) -> Observed:
    """All criteria, pooled over views.

    Args:
        seen: What is said of each view.
        phases: Number of phases.
    """
    stacked = np.concatenate([view.soft.reshape(phases, -1) for view in seen], axis=1).astype(np.float64)
    mean = stacked.mean(1)
    entropy = float(-(stacked * np.log(np.maximum(stacked, 1e-8))).sum(0).mean() / math.log(phases))
    of_mean = float(-(mean * np.log(np.maximum(mean, 1e-8))).sum() / math.log(phases))
    counts = np.bincount(np.concatenate([view.soft.argmax(0).ravel() for view in seen]), minlength=phases)
    return Observed(
        flips=agreement([confusion for view in seen for confusion in view.flipped]),
        photometric=agreement([confusion for view in seen for confusion in view.relit]),
        certainty=1 - entropy,
        information=of_mean - entropy,
        density=soft_neighbourhood_density(stacked.T),
        fractions=(counts / counts.sum()).tolist(),
    )


def relit_views(view: Image) -> list[Image]:
    """The view with another contrast curve, and the view blurred with more contrast: small changes of the microscope."""
    curve = (255 * (np.arange(256) / 255) ** 1.3).astype(np.uint8)
    mean = float(view.mean())
    softened = cv2.GaussianBlur(view, (0, 0), 0.8)
    return [curve[view], np.clip(1.15 * (softened.astype(np.float32) - mean) + mean, 0, 255).astype(np.uint8)]


def agreement(confusions: Sequence[NDArray[np.int64]]) -> float:
    """The mIoU of pooled confusions (P, P) of two labellings. Unlike accuracy, it falls when a rare phase comes and goes."""
    return mean_iou(np.sum(confusions, axis=0))


def fold_agreement(labels: Sequence[Sequence[NDArray[np.uint8]]], phases: int) -> float:
    """Mean mIoU between the labels uint8 (h, w) of every pair of folds on the same views; 1 for a single fold."""
    pairs = [
        agreement([confusion_matrix(a, b, phases) for a, b in zip(one, other, strict=True)])
        for one, other in combinations(labels, 2)
    ]
    return float(np.mean(pairs)) if pairs else 1.0


def soft_neighbourhood_density(points: NDArray[np.float64]) -> float:
    """Entropy of the soft neighbours of sampled points (N, P), less log N (Saito et al. 2021). 0 where all are alike."""
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


def self_consistency(row: Mapping[str, Any]) -> float:
    """Mean agreement of a network with itself under flips and under photometric changes, 0 to 1.

    row: Holds `flips` and `photometric` as `Observed` does.
    """
    return float(row["flips"] + row["photometric"]) / 2


def snapshot_score(row: Mapping[str, Any]) -> float:
    """The label-free criterion that snapshots are chosen by: twice the agreement under flips plus the source mIoU.

    The mIoU on held-out source fields counts, so that a network which forgets the source is not chosen. Agreement under
    photometric changes does not count: self-training optimises it, so it rises while the labels get worse. Of the sums that
    benchmarks.uda compares, this one has the least regret over targets.

    row: Holds `flips` and `source_miou`, 0-1.
    """
    return 2 * float(row["flips"]) + float(row["source_miou"])


def drifted(fractions: Sequence[float], references: Sequence[Sequence[float]], factor: float) -> bool:
    """Whether the fraction of a phase has left the range of the references by more than a factor.

    Args:
        fractions: Area fractions (P,), 0-1.
        references: Area fractions (P,) of the source and of the unadapted network.
        factor: Above 1.
    """
    for found, *known in zip(fractions, *references, strict=True):
        low, high = min(known), max(known)
        # A fraction near one cannot grow by the factor. There the rest must not shrink by it.
        if found > min(high * factor, 1 - (1 - high) / factor) + _SLACK or found < low / factor - _SLACK:
            return True
    return False


def is_lost(history: Sequence[dict[str, Any]]) -> bool:
    """Whether fractions have drifted in the last two snapshots. No later snapshot is chosen then, so training ends."""
    return len(history) > 2 and all(row["drifted"] for row in history[-2:])


def warnings_of(history: Sequence[dict[str, Any]], method: Method) -> list[str]:
    """Sentences on what went wrong in training, each with its remedy.

    Args:
        history: Rows of the snapshots.
        method: The method that trained.
    """
    found = []
    limit = _WON[getattr(method, "loss", "bce")]
    won = next((row for row in history if row["discriminator"] is not None and row["discriminator"] < limit), None)
    if won:
        found.append(
            f"the discriminator tells both domains apart at step {won['step']} (loss {won['discriminator']:.3f}), so the "
            "network learns nothing from it. Remedy: a lower --set method.discriminator_rate, or another method."
        )
    drift = next((row for row in history if row["drifted"]), None)
    # Training on the source alone sees no target and chooses no snapshot.
    if drift and not isinstance(method, SourceOnly):
        ended = f", and training ends at step {history[-1]['step']}" if is_lost(history) else ""
        weighting = ", method.weighting=pixel" if getattr(method, "weighting", "pixel") != "pixel" else ""
        found.append(
            f"the phase fractions have drifted at step {drift['step']}; such snapshots are not chosen{ended}. "
            f"Remedy: --set balanced_patches=true{weighting}, fewer steps, or another method."
        )
    last = history[-1]
    if 1 - last["certainty"] < _COLLAPSED and max(last["fractions"]) > 0.98:
        found.append("the network finds one phase only. Remedy: a lower weight of the entropy, or another method.")
    return found


def texture(image: NDArray[np.uint8], labels: NDArray[np.uint8], phases: int) -> NDArray[np.float64]:
    """The texture of each phase of a field.

    Args:
        image: Grey values uint8 (h, w).
        labels: Phase indices uint8 (h, w).
        phases: Number of phases P.

    Returns:
        float64 (P, 2 + 2 octaves): mean grey value, log of the standard deviation; then for each octave log of the standard
        deviation and skewness. NaN for a phase with too few pixels.
    """
    grey = image.astype(np.float32)
    found = np.full((phases, 2 + 2 * len(_OCTAVES_PX)), np.nan)
    for phase in range(phases):
        inside = cv2.erode((labels == phase).astype(np.uint8), np.ones((_EDGE_PX, _EDGE_PX), np.uint8)).astype(bool)
        if inside.sum() < _LEAST_PIXELS:
            continue
        values = [float(grey[inside].mean()), _log(grey[inside].std())]
        for fine, coarse in _OCTAVES_PX:
            detail = (_within(grey, inside, fine) - _within(grey, inside, coarse))[inside].astype(np.float64)
            values += [_log(detail.std()), float(((detail / max(detail.std(), 1e-3)) ** 3).mean())]
        found[phase] = values
    return found


def texture_shift(source: Sequence[NDArray[np.float64]], target: Sequence[NDArray[np.float64]]) -> float:
    """The largest difference of two domains' mean textures, in standard deviations over the source's fields.

    Args:
        source: Texture (P, D) of each source field.
        target: Texture (P, D) of each target field.

    Returns:
        Infinity where there are fewer than `LEAST_FIELDS` source fields, or where no phase is in most fields of both.
    """
    ours, theirs = np.array(source), np.array(target)
    if len(ours) < LEAST_FIELDS:
        return float("inf")
    is_known = (np.isfinite(ours).mean(0) > 0.5) & (np.isfinite(theirs).mean(0) > 0.5)
    if not is_known.any():
        return float("inf")
    least = np.full(ours.shape[1:], _LEAST_SPREAD)
    least[:, 0] = _LEAST_SPREAD_GREY
    spread = np.maximum(np.nanstd(ours[:, is_known], axis=0, ddof=1), least[is_known])
    difference = np.nanmean(theirs[:, is_known], axis=0) - np.nanmean(ours[:, is_known], axis=0)
    return float(np.abs(difference / spread).max())


def _within(grey: NDArray[np.float32], inside: NDArray[np.bool_], sigma_px: float) -> NDArray[np.float32]:
    """Grey values blurred over the pixels `inside` only, so that the neighbouring phase has no part in them."""
    if not sigma_px:
        return grey
    weight = inside.astype(np.float32)
    total = cv2.GaussianBlur(grey * weight, (0, 0), sigma_px)
    return np.asarray(total / np.maximum(cv2.GaussianBlur(weight, (0, 0), sigma_px), 1e-6), np.float32)


def _log(deviation: float) -> float:
    return float(np.log(max(float(deviation), 1e-3)))
