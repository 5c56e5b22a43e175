"""The tiles that adaptation learns from: labelled ones of the source, unlabelled or pseudo-labelled ones of the target."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import softmax
from torch import Tensor

from microseg.core.evaluation.fractions import phase_fractions
from microseg.core.system.files import Closing
from microseg.models.network import Network
from microseg.train.common.datasets import (
    LOADERS,
    ImagesOf,
    LabelledField,
    TilePlaces,
    TileSampler,
    phase_frequencies,
)
from microseg.train.common.prediction import predict_field
from microseg.train.common.recipe import AugmentationConfig, ExtendedAugmentation, RandomisedAugmentation, Recipe
from microseg.train.common.self_training.pseudo_labels import pseudo_labels
from microseg.train.uda.losses import coded, decoded
from microseg.train.uda.methods import StepTiles
from microseg.train.uda.recipe import UdaRecipe
from microseg.train.uda.style import Style

# The largest rotation that keeps the order of layers.
_UPRIGHT_TURN_DEG = 8.0


class DomainTiles(Closing):
    """Draws the tiles of a step from both domains, as a pure function of the step. The labels cover the whole tile."""

    def __init__(
        self,
        recipe: UdaRecipe,
        source: Recipe,
        fields: Sequence[LabelledField],
        target: Sequence[LabelledField],
        seed: tuple[int, ...],
        places: TilePlaces | None,
        coded_phases: int | None = None,
    ) -> None:
        """Prepare both samplers.

        Args:
            recipe: The recipe of the adaptation.
            source: The source run's recipe.
            fields: Labelled source fields.
            target: Target fields.
            seed: Seed of the run and of the fold.
            places: Where target tiles are drawn, and how often; None for anywhere.
            coded_phases: Number of phases of the target's `losses.coded` labels; None where it has no labels.
        """
        side = source.tile.core_px + 2 * source.tile.halo_px
        changes = tile_augmentations(recipe, source)
        workers = LOADERS if torch.cuda.is_available() else 1
        self._style = None
        if recipe.style_share and not recipe.statistics_only:
            images, weights = _looks(target, places, side)
            self._style = Style.between(ImagesOf(fields), images, weights)
        self._style_share, self._seed, self._coded_phases = recipe.style_share, seed, coded_phases
        self._source = TileSampler(
            fields, changes[0], core_px=side, halo_px=0, batch=recipe.batch, rare_phase_share=source.rare_phase_share,
            seed=(*seed, 1), workers=workers,
        )  # fmt: skip
        self._target = TileSampler(
            target, changes[1], core_px=side, halo_px=0, batch=recipe.batch, rare_phase_share=0.0,
            seed=(*seed, 2), workers=workers, places=places,
        )  # fmt: skip

    def draw(self, step: int, device: torch.device) -> StepTiles:
        """The tiles of one step, on the device."""
        source, target = self._source.batch(step), self._target.batch(step)
        tiles = torch.from_numpy(source.tiles).float().to(device)
        if self._style is not None:
            rng = np.random.default_rng((*self._seed, 3, step))
            strengths = rng.uniform(0, 1, len(tiles)) * (rng.random(len(tiles)) < self._style_share)
            tiles = self._style.carried_over(tiles, torch.from_numpy(strengths).float())
        earlier_labels = None
        if self._coded_phases is not None:
            earlier_labels = decoded(torch.from_numpy(target.labels).to(device), self._coded_phases)
        return StepTiles(
            tiles,
            torch.from_numpy(source.labels).long().to(device),
            torch.from_numpy(target.tiles).float().to(device),
            earlier_labels,
        )

    def close(self) -> None:
        """End the threads."""
        self._source.close()
        self._target.close()


def _looks(
    target: Sequence[LabelledField], places: TilePlaces | None, side: int
) -> tuple[Sequence[NDArray[np.uint8]], NDArray[np.float64] | None]:
    """The images that the target's spectrum and mean grey value are taken from, and their weights.

    With balanced places these are the tiles, as often as they are drawn: other phase fractions than the source's would make
    whole fields darker or brighter.
    """
    if places is None:
        return ImagesOf(target), None
    cuts = []
    for index, (y, x) in places.centres:
        top, left = (max(0, round(middle - (side - 1) / 2)) for middle in (y, x))
        cuts.append(target[index].image[top : top + side, left : left + side])
    return cuts, places.probabilities


def tile_augmentations(recipe: UdaRecipe, source: Recipe) -> tuple[AugmentationConfig, AugmentationConfig]:
    """The pipelines of source tiles and of target tiles.

    Args:
        recipe: The recipe of the adaptation.
        source: The source run's recipe.
    """
    turn = _UPRIGHT_TURN_DEG if getattr(source.augmentation, "upright", False) else 180.0
    mild = ExtendedAugmentation(strength=0.0, elastic_px=0.0, scale=(0.9, 1.1), rotation_deg=turn)
    return recipe.augmentation or robust_augmentation(source.augmentation), recipe.target_augmentation or mild


def robust_augmentation(augmentation: AugmentationConfig) -> AugmentationConfig:
    """The source run's augmentation if it is extended or randomised, else the extended one, upright where that is."""
    if isinstance(augmentation, ExtendedAugmentation | RandomisedAugmentation):
        return augmentation
    upright = getattr(augmentation, "upright", False)
    return ExtendedAugmentation(rotation_deg=_UPRIGHT_TURN_DEG if upright else 180.0, upright=upright)


def pseudo_label_fields(
    bag: Sequence[Network], target: Sequence[LabelledField], stride: int, phase_weights: Tensor | None
) -> list[LabelledField]:
    """Target fields with the bag's pseudo-labels, in the code of `losses.coded`.

    Args:
        bag: Networks in evaluation mode.
        target: Target fields.
        stride: The networks' stride, px.
        phase_weights: Weights (P,) of the loss to divide the probabilities by, or None.
    """
    found = []
    for field in target:
        probability = torch.from_numpy(_mean_map(bag, field.image, stride))[None]
        weights = None if phase_weights is None else phase_weights.cpu()
        (codes,) = coded(*pseudo_labels(probability, weights), probability.shape[1]).numpy()
        found.append(field.relabelled(codes))
    return found


def _mean_map(bag: Sequence[Network], image: NDArray[np.uint8], stride: int) -> NDArray[np.float32]:
    """The bag's mean probability float32 (P, h, w) of a whole field uint8 (h, w)."""
    return np.asarray(predict_field(bag, image, stride, 2 * stride)[0].mean(0))


def split_by_entropy(
    bag: Sequence[Network],
    target: Sequence[LabelledField],
    side: int,
    easy_share: float,
    stride: int,
    phase_weights: Tensor | None,
) -> tuple[list[LabelledField], list[LabelledField]]:
    """Cut target fields into pseudo-labelled tiles and split these by entropy (Pan et al. 2020).

    Args:
        bag: Networks in evaluation mode.
        target: Target fields.
        side: Side of a tile, px.
        easy_share: Share of the tiles that count as easy, 0-1.
        stride: The networks' stride, px.
        phase_weights: Weights (P,) of the loss to divide the probabilities by, or None.

    Returns:
        The tiles of low entropy, and the others.
    """
    cuts = []
    for field in target:
        soft = _mean_map(bag, field.image, stride)
        weights = None if phase_weights is None else phase_weights.cpu()
        labels = pseudo_labels(torch.from_numpy(soft)[None], weights)[0][0].numpy().astype(np.uint8)
        entropy = -(soft * np.log(np.maximum(soft, 1e-8))).sum(0) / math.log(len(soft))
        image = field.image
        height, width = image.shape
        for top in range(0, max(1, height - side // 2), side):
            for left in range(0, max(1, width - side // 2), side):
                place = np.s_[top : top + side, left : left + side]
                cut = LabelledField(field.field, field.sha256, image[place], labels[place])
                cuts.append((float(entropy[place].mean()), cut))
    cuts.sort(key=lambda item: item[0])
    count = max(1, min(len(cuts) - 1, round(easy_share * len(cuts))))
    return [cut for _, cut in cuts[:count]], [cut for _, cut in cuts[count:] or cuts]


def balanced_places(
    pseudo: Sequence[NDArray[np.uint8]], fields: Sequence[LabelledField], phases: int, side: int
) -> TilePlaces:
    """Where to draw target tiles, and how often, so that their mean pseudo-labelled fractions are the source's.

    The probabilities are the closest to even ones, in relative entropy, that have this mean (exponential tilting); where no
    probabilities have it, those that come nearest to it.

    Args:
        pseudo: Pseudo-labels uint8 (h, w) of the target fields.
        fields: Labelled source fields.
        phases: Number of phases.
        side: Side of a tile, px.
    """
    wanted = phase_frequencies(fields, phases)
    centres, found = [], []
    for index, labels in enumerate(pseudo):
        height, width = labels.shape
        for top in range(0, max(1, height - side + 1), max(1, side // 2)):
            for left in range(0, max(1, width - side + 1), max(1, side // 2)):
                cut = labels[top : top + side, left : left + side]
                centres.append((index, (top + (cut.shape[0] - 1) / 2, left + (cut.shape[1] - 1) / 2)))
                found.append(phase_fractions(cut, phases))
    excess = np.array(found) - wanted

    def dual(tilt: NDArray[np.float64]) -> float:
        scores = excess @ tilt
        top = scores.max()
        return float(top + np.log(np.exp(scores - top).mean()) + 1e-4 * (tilt**2).sum())

    tilt = minimize(dual, np.zeros(phases)).x
    return TilePlaces(centres, softmax(excess @ tilt), jitter_px=side / 4)
