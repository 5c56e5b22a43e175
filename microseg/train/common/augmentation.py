"""Augmentation: geometry while a tile is cut, grey values on the cut tile. Everything is drawn from a given generator."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.system.environment import variable_if_unset
from microseg.train.common.recipe import (
    AugmentationConfig,
    BasicAugmentation,
    ExtendedAugmentation,
    RandomisedAugmentation,
)

# albumentations asks a server for newer versions while it is imported. A training node may have no network.
with variable_if_unset("NO_ALBUMENTATIONS_UPDATE", "1"):
    import albumentations as A

Image = NDArray[np.uint8]
Displacement = NDArray[np.float32]


def transform_matrix(
    augmentation: AugmentationConfig,
    rng: np.random.Generator,
    centre: tuple[float, float],
    side: int,
    whole_pixels: bool = False,
) -> NDArray[np.float64]:
    """Draw the affine transformation of a tile.

    Args:
        augmentation: The pipeline.
        rng: Draws angle, magnification, flips and shear.
        centre: Centre of the tile in the field, (y, x) in px.
        side: Side of the tile, px.
        whole_pixels: Move the tile by less than a pixel onto the field's grid. Nothing is interpolated then unless the tile is
            scaled or turned by an odd angle.

    Returns:
        Matrix float64 (2, 3) from tile to field coordinates, (x, y).
    """
    angle, scale, flip, shear = 0.0, 1.0, 1.0, 0.0
    match augmentation:
        case BasicAugmentation(upright=upright):
            angle = math.pi / 2 * int(rng.integers(4)) if rng.random() < 0.5 and not upright else 0.0
            flip = -1.0 if rng.random() < 0.5 else 1.0
        case (
            RandomisedAugmentation(scale=(low, high), rotation_deg=largest)
            | ExtendedAugmentation(scale=(low, high), rotation_deg=largest)
        ):
            angle = math.radians(rng.uniform(-largest, largest))
            scale = math.exp(rng.uniform(math.log(low), math.log(high)))
            flip = -1.0 if rng.random() < 0.5 else 1.0
    if isinstance(augmentation, ExtendedAugmentation):
        shear = math.tan(math.radians(rng.uniform(-augmentation.shear_deg, augmentation.shear_deg)))
    # The matrix maps tile to field, so that a larger magnification takes smaller steps.
    cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
    linear = np.array([[cos * flip, -sin], [sin * flip, cos]]) @ np.array([[1.0, shear], [0.0, 1.0]])
    middle = (side - 1) / 2
    offset = np.array([centre[1], centre[0]]) - linear @ np.array([middle, middle])
    return np.column_stack([linear, np.rint(offset) if whole_pixels else offset])


def displacement(augmentation: AugmentationConfig, rng: np.random.Generator, side: int) -> Displacement | None:
    """Draw the elastic deformation of a tile (Simard et al. 2003).

    The nodes of a coarse grid are displaced, and the displacement between them is interpolated: two small resizes.

    Args:
        augmentation: The pipeline.
        rng: Draws the displacements.
        side: Side of the tile, px.

    Returns:
        Displacement in x and y, float32 (2, side, side), field px; None for a pipeline without deformation.
    """
    if not isinstance(augmentation, ExtendedAugmentation) or not augmentation.elastic_px:
        return None
    nodes = max(4, round(side / augmentation.elastic_grid_px) + 1)
    coarse = rng.normal(0, augmentation.elastic_px, (2, nodes, nodes)).astype(np.float32)
    fine = [cv2.resize(axis, (side, side), interpolation=cv2.INTER_CUBIC) for axis in coarse]
    return np.asarray(fine, np.float32)


def cut(
    image: Image, labels: Image, matrix: NDArray[np.float64], side: int, moved: Displacement | None = None
) -> tuple[Image, Image]:
    """Cut a tile out of a field, mirrored beyond its border.

    Args:
        image: The field, uint8 (h, w). It is interpolated linearly.
        labels: Its labels, uint8 (h, w). The nearest one is taken.
        matrix: From `transform_matrix`.
        side: Side of the tile, px.
        moved: From `displacement`.

    Returns:
        Tile and labels, each uint8 (side, side).
    """
    border = cv2.BORDER_REFLECT_101
    if moved is None:
        size, flags = (side, side), cv2.WARP_INVERSE_MAP
        tile = cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR | flags, borderMode=border)
        truth = cv2.warpAffine(labels, matrix, size, flags=cv2.INTER_NEAREST | flags, borderMode=border)
    else:
        along = np.arange(side, dtype=np.float32)
        (xx, xy, x0), (yx, yy, y0) = matrix.astype(np.float32)
        x = (xx * along + x0) + (xy * along)[:, None] + moved[0]
        y = (yx * along + y0) + (yy * along)[:, None] + moved[1]
        tile = cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=border)
        truth = cv2.remap(labels, x, y, cv2.INTER_NEAREST, borderMode=border)
    return tile.astype(np.uint8, copy=False), truth.astype(np.uint8, copy=False)


def drawn(augmentation: AugmentationConfig, rng: np.random.Generator) -> AugmentationConfig:
    """The pipeline of one tile: `randomised` gives a share of the tiles to the basic pipeline."""
    if isinstance(augmentation, RandomisedAugmentation) and rng.random() >= augmentation.share:
        return BasicAugmentation(upright=augmentation.upright)
    return augmentation


def appearance(augmentation: AugmentationConfig, tile: Image, labels: Image, rng: np.random.Generator) -> Image:
    """Change the grey values of a tile.

    Args:
        augmentation: The pipeline.
        tile: uint8 (S, S).
        labels: uint8 (S, S), for changes by phase.
        rng: Draws the changes.

    Returns:
        uint8 (S, S).
    """
    match augmentation:
        case ExtendedAugmentation(strength=strength):
            if rng.random() < 0.3:
                tile = _shaded(tile, rng, 20 * strength)
            return _through(extended_pipeline, strength, tile, rng)
        case RandomisedAugmentation(strength=strength, phase_offset_grey=offset):
            return _through(randomised_pipeline, strength, _randomise(tile, labels, rng, strength, offset), rng)
        case _:
            return tile


def _through(build: Callable[[float], A.Compose], strength: float, tile: Image, rng: np.random.Generator) -> Image:
    """Pass a tile through an albumentations pipeline that draws from `rng`. Each thread has its own pipelines."""
    known = _pipelines.__dict__
    key = f"{build.__name__}({strength})"
    pipeline = known[key] if key in known else known.setdefault(key, build(strength))
    pipeline.set_random_seed(int(rng.integers(2**31)))
    out: Image = pipeline(image=tile[..., None])["image"][..., 0]
    return out


_pipelines = threading.local()


def extended_pipeline(strength: float) -> A.Compose:
    """Changes within one laboratory: contrast, focus and astigmatism, shot noise. strength: factor on all."""
    return A.Compose(
        [
            A.RandomBrightnessContrast(brightness_limit=0.1 * strength, contrast_limit=0.2 * strength, p=0.7),
            A.RandomGamma(gamma_limit=(100 - 30 * min(strength, 2.0), 100 + 45 * strength), p=0.4),
            A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 1.2), blur_limit=0), A.Sharpen(alpha=(0.1, 0.3))], p=0.3),
            A.GaussNoise(std_range=(0.01, 0.04 * strength + 0.01), p=0.3),
        ]
    )


def randomised_pipeline(strength: float) -> A.Compose:
    """The same changes, beyond those of one laboratory. strength: factor on all."""
    return A.Compose(
        [
            A.RandomBrightnessContrast(brightness_limit=0.3 * strength, contrast_limit=0.4 * strength, p=0.8),
            A.RandomGamma(gamma_limit=(100 - 45 * min(strength, 2.0), 100 + 80 * strength), p=0.5),
            A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 1.6), blur_limit=0), A.Sharpen(alpha=(0.1, 0.4))], p=0.4),
            A.GaussNoise(std_range=(0.01, 0.07 * strength + 0.01), p=0.5),
        ]
    )


def _randomise(tile: Image, labels: Image, rng: np.random.Generator, strength: float, offset: float) -> Image:
    grey = tile.astype(np.float32)
    if offset and rng.random() < 0.5:
        grey += phase_offsets(labels, rng, offset)
    if rng.random() < 0.4:
        grey += shading(grey.shape, rng, 30 * strength)
    if rng.random() < 0.25:
        grey += relief(grey, rng, 1.0 * strength)
    if rng.random() < 0.4:
        grey += correlated_noise(grey.shape, rng, rng.uniform(0, 14 * strength), rng.uniform(0.7, 3.0))
    changed: Image = np.clip(grey + 0.5, 0, 255).astype(np.uint8)
    return changed


def _shaded(tile: Image, rng: np.random.Generator, amplitude_grey: float) -> Image:
    grey: Image = np.clip(tile + shading(tile.shape, rng, amplitude_grey) + 0.5, 0, 255).astype(np.uint8)
    return grey


def phase_offsets(labels: Image, rng: np.random.Generator, std_grey: float) -> NDArray[np.float32]:
    """A grey offset for each phase, blurred at the boundaries, float32 of the labels' shape. Unlabelled pixels have none."""
    table = np.zeros(256, np.float32)
    known = [value for value in np.unique(labels) if value != UNLABELLED]
    table[known] = rng.normal(0, std_grey, len(known))
    return np.asarray(cv2.GaussianBlur(table[labels], (0, 0), float(rng.uniform(0.6, 1.5))), np.float32)


def shading(shape: tuple[int, ...], rng: np.random.Generator, amplitude_grey: float) -> NDArray[np.float32]:
    """Uneven illumination: a smooth random surface of at most `amplitude_grey` grey values, float32 (H, W)."""
    coarse = rng.uniform(-amplitude_grey, amplitude_grey, (3, 3)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC), np.float32)


def relief(grey: NDArray[np.float32], rng: np.random.Generator, amplitude: float) -> NDArray[np.float32]:
    """The relief of a side detector: the directional derivative of the field, in grey values, float32 (H, W)."""
    angle, gain = rng.uniform(0, 2 * math.pi), rng.uniform(0.2, 1.0) * amplitude
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    dx, dy = cv2.Sobel(smooth, cv2.CV_32F, 1, 0, scale=0.25), cv2.Sobel(smooth, cv2.CV_32F, 0, 1, scale=0.25)
    return np.asarray(gain * (math.cos(angle) * dx + math.sin(angle) * dy), np.float32)


def correlated_noise(
    shape: tuple[int, ...], rng: np.random.Generator, std_grey: float, length_px: float
) -> NDArray[np.float32]:
    """Gaussian noise of standard deviation `std_grey` (grey values) and correlation length `length_px`, float32 (H, W)."""
    noise = cv2.GaussianBlur(rng.standard_normal(shape, dtype=np.float32), (0, 0), length_px)
    return np.asarray(noise * (std_grey / max(float(noise.std()), 1e-6)), np.float32)
