"""The choice of the fields whose labels would help most.

Query by committee (Seung, Opper and Sompolinsky 1992) with an ensemble of networks (Beluch et al., CVPR 2018), and batches that
represent what is uncertain (Yang et al., "Suggestive annotation", MICCAI 2017): a labelled field covers fields with alike
features, and each choice is the one that covers most of the disagreement that is not covered yet. Distances are those between
bottleneck features, as in Sener and Savarese (ICLR 2018). Their k-centre takes the farthest field, and with few labels typical
fields teach more than outliers do (Hacohen, Dekel and Weinshall, ICML 2022): so the sum over all fields counts, not the largest
distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.schemas.bag import Fingerprint

THUMBNAIL_PX = 48
# Thumbnails are compared without what changes slowly, such as the shading of a detector, which all fields share.
_SHADING_PX = 6.0
# Of five sets of real micrographs, different fields correlate by at most 0.36. Copies as JPEG of quality 50, with another gamma
# or reduced to 0.6 of their size correlate by at least 0.98, and by 0.75 where 8 of 512 px are cut off each side.
NEAR_DUPLICATE = 0.7
# Share of pixels on which folds differ at borders of phases, even where they agree: a field without doubt keeps this weight.
_LEAST_WEIGHT = 0.01
# Of more candidates, those with most disagreement far from labels are compared: 64 MB of distances.
MOST_COMPARED = 4000
# A field is called far from the labelled ones, or near to them, where its distance is this many times the candidates' median.
FAR, NEAR = 1.25, 0.8


@dataclass(frozen=True)
class Candidate:
    """A field, or a region of a large one, that could be labelled.

    Attributes:
        name: its name.
        disagreement: share of its measured pixels, 0-1, on which the folds do not all agree; None for a single network.
        features: bottleneck features of each fold, float32 (F, D). Axes of different folds are unrelated.
        thumbnail: as of `thumbnail_of`.
    """

    name: str
    disagreement: float | None
    features: NDArray[np.float32]
    thumbnail: NDArray[np.float32]


@dataclass(frozen=True)
class LabelledFeatures:
    """The features of what is labelled.

    Attributes:
        mean: of each fold, float64 (F, D).
        std: of the same, float64 (F, D).
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64]

    @classmethod
    def of_fingerprints(cls, fingerprints: Sequence[Fingerprint]) -> LabelledFeatures | None:
        """The features as a run or an engine keeps them; None where it keeps none."""
        if not fingerprints:
            return None
        return cls(np.array([each.mean for each in fingerprints]), np.array([each.std for each in fingerprints]))


@dataclass(frozen=True)
class Chosen:
    """One choice.

    Attributes:
        place: its place among the candidates.
        distance: from the labelled fields, where 1 is the root mean square distance between two candidates; None where the
            features of labelled fields are unknown.
        relative_distance: the same over its median over the candidates, or None.
        represents: number of candidates, itself included, that have no chosen or labelled field nearer to them.
    """

    place: int
    distance: float | None
    relative_distance: float | None
    represents: int


def thumbnail_of(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A small picture for comparisons: the product of two is their correlation.

    Args:
        image: grey values, uint8 (h, w).

    Returns:
        float32 (THUMBNAIL_PX**2,), with mean 0 and length 1; all 0 for a picture without structure.
    """
    small = cv2.resize(image, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA).astype(np.float32)
    detail = np.asarray(small - cv2.GaussianBlur(small, (0, 0), _SHADING_PX), np.float32).ravel()
    detail -= detail.mean()
    length = float(np.linalg.norm(detail))
    return detail / length if length > 0 else detail


def choose(
    candidates: Sequence[Candidate], count: int, labelled: LabelledFeatures | None = None
) -> tuple[list[Chosen], list[tuple[int, int]]]:
    """Choose the fields whose labels would help most, the most useful first.

    Each choice covers every field the more, the nearer their features are. It is the field that lowers the sum over all fields
    of disagreement times distance to the nearest labelled or chosen field most. The same candidates give the same choice.

    Args:
        candidates: what may be chosen.
        count: the most fields to choose.
        labelled: the features of what is labelled; None: unknown, so that all fields are equally far.

    Returns:
        The choices, and the pairs (place, place of the choice that it nearly equals) of fields left out as near-duplicates.
    """
    if not candidates or count < 1:
        return [], []
    units = _units(candidates)
    far = _from_labelled(candidates, labelled, units)
    weights = np.array([1.0 if each.disagreement is None else each.disagreement for each in candidates]) + _LEAST_WEIGHT
    kept = _most_promising(weights if far is None else weights * far)
    between = _between([candidates[place] for place in kept], units)
    open_distance = np.full(len(kept), between.max(initial=1.0)) if far is None else far[kept].copy()
    thumbnails = np.stack([candidates[place].thumbnail for place in kept])
    free = np.ones(len(kept), np.bool_)
    order: list[int] = []
    duplicates: list[tuple[int, int]] = []
    while len(order) < count and free.any():
        gains = np.maximum(0, open_distance[None, :] - between) @ weights[kept]
        # Where everything is covered, what is least covered itself comes next.
        gains = gains if gains[free].max() > 0 else weights[kept] * open_distance
        best = int(np.flatnonzero(free)[np.argmax(gains[free])])
        order.append(best)
        free[best] = False
        open_distance = np.minimum(open_distance, between[best])
        for other in np.flatnonzero(free & (thumbnails @ thumbnails[best] >= NEAR_DUPLICATE)).tolist():
            free[other] = False
            duplicates.append((kept[other], kept[best]))
    return _chosen(order, kept, between, far), duplicates


def _chosen(
    order: list[int], kept: list[int], between: NDArray[np.float64], far: NDArray[np.float64] | None
) -> list[Chosen]:
    nearest = np.argmin(between[order], axis=0)
    if far is not None:
        nearest = np.where(between[order].min(axis=0) <= far[kept], nearest, -1)
    median = None if far is None else float(np.median(far))
    found = []
    for number, place in enumerate(order):
        distance = None if far is None else float(far[kept[place]])
        relative = None if distance is None or not median else distance / median
        # A field represents itself, also where its labels were known to be near.
        represents = int(np.count_nonzero(nearest == number)) + int(nearest[place] != number)
        found.append(Chosen(kept[place], distance, relative, represents))
    return found


def _units(candidates: Sequence[Candidate]) -> NDArray[np.float64]:
    """The root mean square distance between two candidates in the features of each fold, float64 (F,); 1 where it is 0."""
    features = np.stack([each.features for each in candidates]).astype(np.float64)
    units = np.sqrt(2 * features.var(axis=0).sum(axis=1))
    return np.where(units > 0, units, 1.0)


def _from_labelled(
    candidates: Sequence[Candidate], labelled: LabelledFeatures | None, units: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """Root mean square distance of each candidate from a labelled field, mean over the folds, (N,), in `units`."""
    if labelled is None:
        return None
    features = np.stack([each.features for each in candidates]).astype(np.float64)
    squares = np.square(features - labelled.mean).sum(axis=2) + np.square(labelled.std).sum(axis=1)
    return np.asarray((np.sqrt(squares) / units).mean(axis=1))


def _between(candidates: Sequence[Candidate], units: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances between candidates, mean over the folds, (N, N), in `units`."""
    total = np.zeros((len(candidates), len(candidates)))
    for fold, unit in enumerate(units):
        rows = np.stack([each.features[fold] for each in candidates]).astype(np.float64)
        rows -= rows.mean(axis=0)  # differences of large numbers lose digits
        lengths = np.square(rows).sum(axis=1)
        squares = lengths[:, None] + lengths[None, :] - 2 * rows @ rows.T
        np.fill_diagonal(squares, 0)
        total += np.sqrt(np.maximum(squares, 0)) / unit
    return total / len(units)


def _most_promising(worth: NDArray[np.float64]) -> list[int]:
    """The places of at most `MOST_COMPARED` candidates, in order."""
    best = np.argsort(-worth, kind="stable")[:MOST_COMPARED]
    return sorted(best.tolist())
