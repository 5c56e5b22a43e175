"""Classified micrographs: one folder for each class, read on demand, and batches as a pure function of the step."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError
from microseg.core.images.folders import find_images
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.preparation import Grid, Preparation
from microseg.train.common.augmentation import appearance, cut, displacement, drawn, transform_matrix
from microseg.train.common.recipe import AugmentationConfig

_CACHE_BYTES = 1 << 30
# Strokes of text, arrows and scale bars: pure black or white, different from their surroundings, longer than noise.
_STROKE_CONTRAST = 80
_STROKE_PX, _STROKES_PX = 12, 150


@dataclass(frozen=True)
class ClassifiedFile:
    """One classified micrograph.

    path: The file.
    label: Index of its class.
    is_validation: Whether it only validates.
    """

    path: Path
    label: int
    is_validation: bool


def find_classes(
    folder: Path, validation_share: float, seed: int, left_out: Collection[Path] = ()
) -> tuple[list[str], list[ClassifiedFile]]:
    """Find the classes and their files.

    Args:
        folder: Holds one folder of images for each class.
        validation_share: Share of the files of each class that validate only, 0-1.
        seed: Draws these files.
        left_out: Files to ignore.

    Returns:
        Names of the classes, and the files.

    Raises:
        InputError: No folder, fewer than two classes, or a class with fewer than two images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: does not exist. Remedy: a folder that holds one folder of images for each class.")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if len(names) < 2:
        raise InputError(
            f"{folder}: holds {len(names)} class folders, at least 2 are needed. Remedy: one for each class."
        )
    files = []
    for label, name in enumerate(names):
        images = [path for path in find_images(folder / name, stated=True) if path not in left_out]
        if len(images) < 2:
            raise InputError(
                f"{folder / name}: holds {len(images)} image{'s' * (len(images) != 1)} to use; a class needs one to train "
                "on and one to validate on. Remedy: more images, or another place for the folder."
            )
        held = min(len(images) - 1, max(1, round(validation_share * len(images))))
        order = np.random.default_rng((seed, label)).permutation(len(images))
        files += [ClassifiedFile(images[i], label, place < held) for place, i in enumerate(order)]
    return names, files


# Encoders learn from images of any scale.
NATIVE = ScaleRules(takes_native_pixels=True)


class ClassifiedImages:
    """Reads micrographs onto the network's grid, and keeps up to a gigabyte of them in memory."""

    def __init__(self, preparation: Preparation, scale: float) -> None:
        self._preparation, self._grid = preparation, Grid(scale=scale)
        self._kept: dict[Path, NDArray[np.uint8]] = {}
        self._bytes = 0

    def read(self, path: Path) -> NDArray[np.uint8]:
        """One image, uint8 (h, w). Raises InputError that names the file."""
        if path in self._kept:
            return self._kept[path]
        try:
            with open_prepared(path, self._preparation, self._grid, NATIVE) as prepared:
                image = prepared.whole()
        except FieldError as error:
            raise InputError(str(error)) from error
        if self._bytes + image.nbytes <= _CACHE_BYTES:
            self._kept[path] = image
            self._bytes += image.nbytes
        return image


@dataclass(frozen=True)
class ClassifiedBatch:
    """The cuts of a step.

    tiles: uint8 (N, 1, S, S).
    labels: Classes, int64 (N,).
    sources: Names of the files.
    """

    tiles: NDArray[np.uint8]
    labels: NDArray[np.int64]
    sources: tuple[str, ...]


class CutSampler:
    """Draws batches as a pure function of the step: each file once an epoch, cut anywhere."""

    def __init__(
        self,
        files: Sequence[ClassifiedFile],
        images: ClassifiedImages,
        augmentation: AugmentationConfig,
        *,
        tile_px: int,
        batch: int,
        seed: tuple[int, ...],
    ) -> None:
        self._files, self._images, self._augmentation = list(files), images, augmentation
        self._tile_px, self._batch, self._seed = tile_px, batch, seed

    def batch(self, step: int) -> ClassifiedBatch:
        """The batch of a step."""
        count = len(self._files)
        places = [divmod(step * self._batch + i, count) for i in range(self._batch)]
        orders = {epoch: np.random.default_rng((*self._seed, epoch, count)).permutation(count) for epoch, _ in places}
        files = [self._files[int(orders[epoch][position])] for epoch, position in places]
        tiles = [self._cut(file, np.random.default_rng((*self._seed, step, i))) for i, file in enumerate(files)]
        labels = np.array([file.label for file in files], np.int64)
        return ClassifiedBatch(np.stack(tiles)[:, None], labels, tuple(file.path.name for file in files))

    def _cut(self, file: ClassifiedFile, rng: np.random.Generator) -> NDArray[np.uint8]:
        image, side = self._images.read(file.path), self._tile_px
        height, width = image.shape
        centre = tuple(rng.uniform(side / 2, n - side / 2) if n > side else (n - 1) / 2 for n in (height, width))
        augmentation = drawn(self._augmentation, rng)
        matrix = transform_matrix(augmentation, rng, (float(centre[0]), float(centre[1])), side, whole_pixels=True)
        nothing = np.zeros_like(image)
        tile, labels = cut(image, nothing, matrix, side, displacement(augmentation, rng, side))
        return appearance(augmentation, tile, labels, rng)


def centre_cut(image: NDArray[np.uint8], tile_px: int) -> NDArray[np.uint8]:
    """The middle of an image uint8 (h, w) as uint8 (tile_px, tile_px), mirrored where the image is smaller."""
    height, width = image.shape
    matrix = np.array([[1.0, 0, (width - tile_px) // 2], [0, 1.0, (height - tile_px) // 2]])
    return cut(image, np.zeros_like(image), matrix, tile_px)[0]


def is_annotated(image: NDArray[np.uint8]) -> bool:
    """Whether an image seems to have burned-in text, arrows or a scale bar.

    It looks for connected strokes of pure black or white that differ strongly from their surroundings.

    Args:
        image: uint8 (h, w) at native size.
    """
    around = cv2.medianBlur(image, 15)
    strokes = ((image == 255) | (image == 0)) & (cv2.absdiff(image, around) > _STROKE_CONTRAST)
    _, _, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)
    areas = stats[1:, cv2.CC_STAT_AREA]
    return bool(areas[areas >= _STROKE_PX].sum() >= _STROKES_PX)
