"""A random forest that labels pixels by the responses of filters of many scales, as Trainable Weka and ilastik do.

Features: those of scikit-image (Gaussian, edges, eigenvalues of the Hessian), with what the two programs add: differences of
Gaussians, the structure tensor, minimum, maximum, median and variance of neighbourhoods, and membrane projections.
Sources: Arganda-Carreras et al., Bioinformatics 33, 2424 (2017), doi 10.1093/bioinformatics/btx180; Berg et al., Nature
Methods 16, 1226 (2019), doi 10.1038/s41592-019-0582-9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.evaluation.metrics import mean_iou
from microseg.core.preparation.stitching import predict_tiled
from microseg.core.preparation.tiling import plan_tiles
from microseg.core.system.processor_count import usable_processors

# Standard deviations of the Gaussians, and radii of the neighbourhoods, px.
SCALES_PX = (1, 2, 4, 8, 16)
# ilastik leaves the largest scale of the structure tensor out by default as well.
TENSOR_SCALES_PX = (1, 2, 4, 8)
MEMBRANE_PX, MEMBRANE_DIRECTIONS = 19, 12
# What the widest filter sees on each side: four standard deviations and its derivatives.
HALO_PX = 72
# A tile has 57 features of 4 bytes a pixel.
MAX_TILE_PIXELS = 1_200_000
TREES, LEAST_LEAF = 200, 3
# Pixels that a forest learns from, and those that are drawn for a tree.
PIXELS, PIXELS_OF_A_TREE = 200_000, 50_000
# How far the phases are balanced: 0 draws pixels as they come, 1 equally many of each phase.
BALANCES = (0.0, 0.5, 1.0)
# A trial of a setting is smaller than the forest.
_TRIAL_TREES, _TRIAL_PIXELS = 30, 15_000
# Mean and standard deviation of standardised grey values.
_MEAN_GREY, _SPREAD_GREY = 128, 45
_PREDICTED_AT_ONCE = 200_000


@dataclass(frozen=True)
class Setting:
    """What the training fields decide.

    standardised: Whether every field gets one mean and one standard deviation of grey values first, as users do by hand
        where brightness or contrast differ between fields.
    balance: How far the phases are balanced: one of `BALANCES`.
    """

    standardised: bool
    balance: float


# A single field decides nothing.
DEFAULT = Setting(standardised=True, balance=0.5)


def standardised(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A field uint8 (h, w) with the mean 128 and the standard deviation 45, cut off at 0 and 255."""
    deviation = (image - image.mean(dtype=np.float64)) / max(float(image.std(dtype=np.float64)), 1.0)
    return np.asarray(np.clip(np.rint(_MEAN_GREY + _SPREAD_GREY * deviation), 0, 255), np.uint8)


def features(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The responses of all filters.

    Args:
        image: uint8 (h, w).

    Returns:
        float32 (F, h, w).
    """
    import skimage.feature

    untyped: Any = skimage.feature
    grey = np.asarray(image / 255, np.float32)
    basic = untyped.multiscale_basic_features(grey, sigma_min=SCALES_PX[0], sigma_max=SCALES_PX[-1], workers=1)
    planes = [grey, *np.moveaxis(basic, -1, 0)]
    smooth = [grey, *planes[1 :: len(planes) // len(SCALES_PX)]]
    planes += [fine - coarse for fine, coarse in pairwise(smooth)]
    for scale in TENSOR_SCALES_PX:
        tensor = untyped.structure_tensor(grey, scale, mode="reflect")
        planes += [*untyped.structure_tensor_eigenvalues(tensor)]
    for radius in SCALES_PX:
        planes += _neighbourhood(image, grey, radius)
    planes += _membranes(grey)
    return np.stack(planes).astype(np.float32, copy=False)


def _neighbourhood(image: NDArray[np.uint8], grey: NDArray[np.float32], radius: int) -> list[NDArray[Any]]:
    """Minimum, maximum, median and variance in a square."""
    side = 2 * radius + 1
    square = np.ones((side, side), np.uint8)
    mean = cv2.blur(grey, (side, side), borderType=cv2.BORDER_REFLECT)
    of_squares = cv2.blur(grey * grey, (side, side), borderType=cv2.BORDER_REFLECT)
    order = [cv2.erode(image, square), cv2.dilate(image, square), cv2.medianBlur(image, side)]
    return [*(plane.astype(np.float32) / 255 for plane in order), np.maximum(of_squares - mean * mean, 0)]


def _membranes(grey: NDArray[np.float32]) -> list[NDArray[Any]]:
    """Maximum, minimum and spread over directions of the mean along a line."""
    centre = (MEMBRANE_PX - 1) / 2
    line = np.zeros((MEMBRANE_PX, MEMBRANE_PX), np.float32)
    line[:, MEMBRANE_PX // 2] = 1
    along = []
    for direction in range(MEMBRANE_DIRECTIONS):
        turn = cv2.getRotationMatrix2D((centre, centre), 180 * direction / MEMBRANE_DIRECTIONS, 1)
        kernel = cv2.warpAffine(line, turn, (MEMBRANE_PX, MEMBRANE_PX))
        along.append(cv2.filter2D(grey, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REFLECT))
    stack = np.stack(along)
    return [stack.max(0), stack.min(0), stack.std(0)]


@dataclass(frozen=True)
class Pool:
    """Pixels of one field that a forest may learn from.

    counts: Labelled pixels of each phase in the field, int64 (P,).
    pixels: Features of some pixels of each phase, float32 (n, F).
    """

    counts: NDArray[np.int64]
    pixels: list[NDArray[np.float32]]


def pool_of(
    image: NDArray[np.uint8], labels: NDArray[np.uint8], phases: int, most: int, rng: np.random.Generator
) -> Pool:
    """Draw pixels of a field.

    Args:
        image: uint8 (h, w).
        labels: Phase indices uint8 (h, w), 255 where unlabelled.
        phases: Number of phases.
        most: The most pixels of a phase.
        rng: What draws.
    """
    counts = np.bincount(labels.ravel(), minlength=UNLABELLED + 1)[:phases]
    planes = features(image).reshape(-1, labels.size)
    pixels = []
    for phase in range(phases):
        places = np.flatnonzero(labels == phase)
        if places.size > most:
            places = np.sort(rng.choice(places, most, replace=False))
        pixels.append(np.ascontiguousarray(planes[:, places].T))
    return Pool(counts, pixels)


def most_of_a_phase(fields: int) -> int:
    """The most pixels of a phase that each of some fields keeps: twice its share, since phases differ from field to field."""
    return max(2_000, 2 * PIXELS // fields)


class PixelForest:
    """A fitted forest. It labels fields of any size."""

    def __init__(self, forest: Any, phases: int, setting: Setting) -> None:
        """forest: A fitted RandomForestClassifier. phases: Number of phases. setting: How it was fitted."""
        self._forest, self._phases = forest, phases
        self.setting = setting

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities float32 (P, h, w) of a field uint8 (h, w)."""
        if self.setting.standardised:
            image = standardised(image)
        plan = plan_tiles(image.shape[0], image.shape[1], 1, HALO_PX, MAX_TILE_PIXELS)
        (probability,) = predict_tiled(image, plan, lambda tile: (self._of_tile(tile),))
        return probability

    def _of_tile(self, tile: NDArray[np.uint8]) -> NDArray[np.float32]:
        planes = features(tile)
        values = planes.reshape(len(planes), -1)
        parts = [
            self.of_pixels(values[:, start : start + _PREDICTED_AT_ONCE].T)
            for start in range(0, tile.size, _PREDICTED_AT_ONCE)
        ]
        return np.concatenate(parts).T.reshape(self._phases, *tile.shape)

    def of_pixels(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Probabilities float32 (n, P) of pixels with features float32 (n, F)."""
        found = np.zeros((len(pixels), self._phases), np.float32)
        found[:, self._forest.classes_] = self._forest.predict_proba(np.ascontiguousarray(pixels))
        return found


def fit_forest(pools: Sequence[Pool], setting: Setting, seed: int, trees: int, pixels: int) -> PixelForest:
    """Fit a forest to pixels of some fields.

    Args:
        pools: One for each field, standardised where the setting says so.
        setting: The setting.
        seed: Seed of what is drawn.
        trees: Number of trees.
        pixels: About the number of pixels that are drawn.
    """
    from sklearn.ensemble import RandomForestClassifier

    values, labels = _drawn(pools, setting.balance, pixels, np.random.default_rng(seed))
    forest = RandomForestClassifier(
        trees,
        max_samples=min(len(labels), PIXELS_OF_A_TREE),
        min_samples_leaf=LEAST_LEAF,
        max_features="sqrt",
        n_jobs=usable_processors(),
        random_state=seed,
    )
    return PixelForest(forest.fit(values, labels), len(pools[0].counts), setting)


def _drawn(
    pools: Sequence[Pool], balance: float, pixels: int, rng: np.random.Generator
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Features float32 (n, F) and phases int64 (n,). A phase's share is its area to the power 1 - balance."""
    counts = np.stack([pool.counts for pool in pools])
    area = counts.sum(0)
    share = np.where(area > 0, (area / area.sum()) ** (1 - balance), 0)
    wanted = pixels * share / share.sum()
    values, labels = [], []
    for pool in pools:
        for phase, known in enumerate(pool.pixels):
            number = round(wanted[phase] * pool.counts[phase] / max(area[phase], 1))
            chosen = known if number >= len(known) else known[rng.choice(len(known), number, replace=False)]
            values.append(chosen)
            labels.append(np.full(len(chosen), phase))
    return np.concatenate(values), np.concatenate(labels)


def best_setting(pools: Mapping[bool, Sequence[Pool]], groups: Sequence[str], seed: int) -> Setting:
    """The setting with the highest mIoU: first the grey values, then the balance of the phases.

    Two small forests try each, and each of them is scored on the half of the groups that it has not learned from, or of the
    fields where they are of one group.

    Args:
        pools: One for each field, as the fields are (False) and standardised (True).
        groups: The group of each field.
        seed: Seed of what is drawn.

    Returns:
        The setting; `DEFAULT` where there is a single field.
    """
    if len(groups) < 2:
        return DEFAULT
    if len(set(groups)) < 2:
        groups = [str(index) for index in range(len(groups))]
    names = sorted(set(groups))
    half = set(names[::2])
    is_first = [group in half for group in groups]

    def score(setting: Setting) -> float:
        found = pools[setting.standardised]
        sides = [[pool for pool, first in zip(found, is_first, strict=True) if first is side] for side in (True, False)]
        confusion = sum(
            _confusion(fit_forest(learned, setting, seed, _TRIAL_TREES, _TRIAL_PIXELS), unseen)
            for learned, unseen in (sides, sides[::-1])
        )
        return mean_iou(np.rint(confusion).astype(np.int64))

    scores = {standard: score(Setting(standard, DEFAULT.balance)) for standard in (True, False)}
    standard = max(scores, key=lambda key: scores[key])
    by_balance = {
        balance: scores[standard] if balance == DEFAULT.balance else score(Setting(standard, balance))
        for balance in BALANCES
    }
    return Setting(standard, max(by_balance, key=lambda key: by_balance[key]))


def _confusion(forest: PixelForest, pools: Sequence[Pool]) -> NDArray[np.float64]:
    """True phase by found phase, float64 (P, P), in pixels of the whole fields."""
    phases = len(pools[0].counts)
    confusion = np.zeros((phases, phases))
    for pool in pools:
        for phase, known in enumerate(pool.pixels):
            if len(known):
                some = known[:: 1 + len(known) // 2_000]
                found = np.bincount(forest.of_pixels(some).argmax(1), minlength=phases)
                confusion[phase] += pool.counts[phase] * found / len(some)
    return confusion
