"""Labelled fields, and training batches as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import Domain, DomainField, prepared_and_labels
from microseg.core.domains.phases import UNLABELLED
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.schemas.preparation import Grid
from microseg.core.system.files import Closing, sha256_of
from microseg.train.common.augmentation import appearance, cut, displacement, drawn, transform_matrix
from microseg.train.common.fields.stored import Plane, PlaneStore, pixels_of
from microseg.train.common.recipe import AugmentationConfig, BasicAugmentation, NoAugmentation

# Threads that cut tiles for a GPU. benchmarks.loader measures the rate of one.
LOADERS = 4
# Positions of phases that a sampler keeps; those of further fields are found again for each tile. 16 MB.
MOST_POSITIONS = 4_000_000
# Positions of one phase in one field are thinned to about this number.
_POSITIONS_OF_A_FIELD = 50_000


@dataclass(frozen=True)
class LabelledField:
    """A field on the network's grid. Its planes are arrays, or lie in a file and are read each time that they are asked for.

    field: The files.
    sha256: Of the image file.
    image_plane, labels_plane: `image` and `labels`, wherever they are.
    """

    field: DomainField
    sha256: str
    image_plane: Plane
    labels_plane: Plane

    @property
    def image(self) -> NDArray[np.uint8]:
        """Grey values uint8 (h, w)."""
        return pixels_of(self.image_plane)

    @property
    def labels(self) -> NDArray[np.uint8]:
        """Phase indices uint8 (h, w), 255 where unlabelled."""
        return pixels_of(self.labels_plane)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width, px."""
        height, width = self.image_plane.shape
        return height, width

    @property
    def area_px(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Pixels of each label, int64 (256,)."""
        return np.bincount(self.labels.ravel(), minlength=256)

    def with_image(self, image: Plane) -> LabelledField:
        """The field with other grey values."""
        return replace(self, image_plane=image)

    def relabelled(self, labels: Plane) -> LabelledField:
        """The field with other labels."""
        return replace(self, labels_plane=labels)


@dataclass(frozen=True)
class Batch:
    """The tiles of a step.

    tiles: uint8 (N, 1, S, S).
    labels: Labels of the cores, uint8 (N, C, C). 255 counts in no loss.
    sources: Names of the fields.
    """

    tiles: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    sources: tuple[str, ...]


@dataclass(frozen=True)
class TilePlaces:
    """Places where tiles are drawn.

    centres: Number of the field, and centre (y, x) in px.
    probabilities: Of each place, float64 (N,).
    jitter_px: Largest shift from a centre.
    """

    centres: Sequence[tuple[int, tuple[float, float]]]
    probabilities: NDArray[np.float64]
    jitter_px: float


class ImagesOf(Sequence[NDArray[np.uint8]]):
    """The images of fields, uint8 (h, w). One is read when it is its turn."""

    def __init__(self, fields: Sequence[LabelledField]) -> None:
        self._fields = fields

    def __len__(self) -> int:
        return len(self._fields)

    @overload
    def __getitem__(self, index: int) -> NDArray[np.uint8]: ...

    @overload
    def __getitem__(self, index: slice) -> ImagesOf: ...

    def __getitem__(self, index: int | slice) -> NDArray[np.uint8] | ImagesOf:
        return ImagesOf(self._fields[index]) if isinstance(index, slice) else self._fields[index].image


def load_fields(
    domain: Domain, grid: Grid, scale: ScaleRules = ScaleRules(), store: PlaneStore | None = None
) -> list[LabelledField]:
    """Read every training field of a domain onto the network's grid, one after the other.

    Args:
        domain: The domain.
        grid: The network's pixel grid.
        scale: What decides the pixel size beside the domain and its files.
        store: Keeps the pixels; a new one by default.

    Raises:
        InputError: Image or mask cannot be read.
        FieldError: As reading does.
        OSError: The folder of temporary files is full, or cannot be written.
    """
    store = store or PlaneStore()
    fields = []
    for field in domain.training_fields:
        image, labels = prepared_and_labels(field, domain, grid, scale)
        fields.append(LabelledField(field, sha256_of(field.image), store.keep(image), store.keep(labels)))
    return fields


def unlabelled_field(field: DomainField, sha256: str, image: NDArray[np.uint8], store: PlaneStore) -> LabelledField:
    """A field whose labels are all 255, kept in `store`. image: grey values uint8 (h, w)."""
    return LabelledField(field, sha256, store.keep(image), store.keep(np.full_like(image, UNLABELLED)))


def with_labels(fields: Sequence[LabelledField], share: float, seed: int) -> list[LabelledField]:
    """A share of the fields, 0-1, rounded up and drawn by seed. A smaller share is part of a larger one."""
    order = np.random.default_rng((seed, len(fields))).permutation(len(fields))
    kept = set(order[: math.ceil(share * len(fields))].tolist())
    return [field for index, field in enumerate(fields) if index in kept]


def phase_frequencies(fields: Sequence[LabelledField], phases: int) -> NDArray[np.float64]:
    """Area fraction of every phase over all labelled pixels, float64 (P,), 0-1."""
    counts = sum((field.counts[:phases] for field in fields), np.zeros(phases, np.int64))
    return counts / max(int(counts.sum()), 1)


def grid_of(fields: Sequence[LabelledField], core_px: int) -> list[tuple[int, tuple[float, float]]]:
    """The paper's tiles: cores on a grid that cover every field, mirrored to a multiple of the core.

    Args:
        fields: The fields.
        core_px: Side of a core.

    Returns:
        Number of the field and centre (y, x) in px, of every core.
    """
    places = []
    for index, field in enumerate(fields):
        height, width = field.shape
        for top in range(0, height, core_px):
            places += [
                (index, (top + (core_px - 1) / 2, left + (core_px - 1) / 2)) for left in range(0, width, core_px)
            ]
    return places


class TileSampler(Closing):
    """Draws batches as a pure function of the step, so that a resumed run draws the same ones."""

    def __init__(
        self,
        fields: Sequence[LabelledField],
        augmentation: AugmentationConfig,
        *,
        core_px: int,
        halo_px: int,
        batch: int,
        rare_phase_share: float,
        seed: tuple[int, ...],
        on_grid: bool = False,
        workers: int = 1,
        share: tuple[int, int] = (0, 1),
        places: TilePlaces | None = None,
    ) -> None:
        """Prepare the drawing.

        Args:
            fields: The fields to draw from.
            augmentation: The pipeline.
            core_px: Side of the core, whose labels are kept.
            halo_px: Width of the halo.
            batch: Tiles of a step.
            rare_phase_share: Share of the tiles that are centred on a pixel of a phase drawn evenly.
            seed: Seed of the run and number of the fold.
            on_grid: Take the tiles of `grid_of`, in another order each epoch.
            workers: Threads that cut tiles.
            share: Rank and number of ranks that cut a batch together.
            places: Draw tiles at these places only.
        """
        self._drawn_from = places
        self._fields = list(fields)
        self._augmentation = augmentation
        self._core_px, self._halo_px, self._batch = core_px, halo_px, batch
        self._rare_phase_share, self._seed, self._share = rare_phase_share, seed, share
        areas = np.array([field.area_px for field in fields], np.float64)
        self._weights = areas / areas.sum()
        self._places = _PhasePlaces(self._fields if rare_phase_share else ())
        self._grid = grid_of(fields, core_px) if on_grid else []
        self._pool = ThreadPoolExecutor(workers) if workers > 1 else None

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def batch(self, step: int) -> Batch:
        """The batch of a step, or this rank's share of it."""
        places = [(step, i) for i in range(self._share[0], self._batch, self._share[1])]
        cut_out = self._pool.map(self._tile, places) if self._pool is not None else map(self._tile, places)
        tiles, labels, sources = zip(*cut_out, strict=True)
        return Batch(np.stack(tiles)[:, None], np.stack(labels), tuple(dict.fromkeys(sources)))

    def _tile(self, place: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
        rng = np.random.default_rng((*self._seed, *place))
        index, centre = self._on_grid(*place) if self._grid else self._place(rng)
        return self._changed(self._augmentation, self._fields[index], centre, rng)

    def before_and_after(self, step: int, i: int) -> tuple[Batch, Batch]:
        """Tile `i` of a step, without its augmentation and with it."""
        rng = np.random.default_rng((*self._seed, step, i))
        index, centre = self._on_grid(step, i) if self._grid else self._place(rng)
        pair = []
        for augmentation in (NoAugmentation(), self._augmentation):
            tile, labels, source = self._changed(augmentation, self._fields[index], centre, rng)
            pair.append(Batch(tile[None, None], labels[None], (source,)))
        return pair[0], pair[1]

    def _changed(
        self,
        augmentation: AugmentationConfig,
        field: LabelledField,
        centre: tuple[float, float],
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], str]:
        side = self._core_px + 2 * self._halo_px
        augmentation = drawn(augmentation, rng)
        # Pipelines that deform may also blur slightly by a shift of less than a pixel.
        whole_pixels = isinstance(self._augmentation, NoAugmentation | BasicAugmentation)
        matrix = transform_matrix(augmentation, rng, centre, side, whole_pixels)
        tile, labels = cut(field.image, field.labels, matrix, side, displacement(augmentation, rng, side))
        tile = appearance(augmentation, tile, labels, rng)
        core = slice(self._halo_px, self._halo_px + self._core_px)
        return tile, labels[core, core], field.field.name

    def _on_grid(self, step: int, i: int) -> tuple[int, tuple[float, float]]:
        epoch, position = divmod(step * self._batch + i, len(self._grid))
        order = np.random.default_rng((*self._seed, epoch, len(self._grid))).permutation(len(self._grid))
        return self._grid[int(order[position])]

    def _place(self, rng: np.random.Generator) -> tuple[int, tuple[float, float]]:
        """Draw a field and a centre (y, x): at a given place, at a pixel of a phase drawn evenly, or anywhere by area."""
        if self._drawn_from is not None:
            chosen = int(rng.choice(len(self._drawn_from.centres), p=self._drawn_from.probabilities))
            index, centre = self._drawn_from.centres[chosen]
            moved = rng.uniform(-1, 1, 2) * self._drawn_from.jitter_px
            return index, (centre[0] + float(moved[0]), centre[1] + float(moved[1]))
        if rng.random() < self._rare_phase_share:
            index, pixel = self._places.drawn(rng)
            return index, self._beside(pixel, rng)
        index = int(rng.choice(len(self._fields), p=self._weights))
        height, width = self._fields[index].shape
        # Some tiles reach over the border, because inference mirrors borders too.
        inset = self._core_px / 2 - self._halo_px / 2
        centre = _between(rng, height, inset), _between(rng, width, inset)
        return index, self._labelled(index, centre, rng)

    def _beside(self, pixel: tuple[int, int], rng: np.random.Generator) -> tuple[float, float]:
        """A centre whose core holds a pixel (y, x)."""
        shift = rng.uniform(-0.4, 0.4, 2) * self._core_px
        return pixel[0] + float(shift[0]), pixel[1] + float(shift[1])

    def _labelled(self, index: int, centre: tuple[float, float], rng: np.random.Generator) -> tuple[float, float]:
        """The centre, or one beside a labelled pixel drawn evenly where its core holds no label and would teach nothing."""
        field = self._fields[index]
        if field.counts[UNLABELLED] in (0, field.area_px):
            return centre
        labels, half = field.labels, self._core_px / 2
        rows, columns = (slice(max(0, round(middle - half)), max(0, round(middle + half))) for middle in centre)
        if (labels[rows, columns] != UNLABELLED).any():
            return centre
        where = np.flatnonzero(labels != UNLABELLED)
        y, x = divmod(int(where[int(rng.integers(where.size))]), field.shape[1])
        return self._beside((y, x), rng)


class _PhasePlaces:
    """Where the phases are. The positions of the first fields are kept; those of the others are found when one is drawn."""

    def __init__(self, fields: Sequence[LabelledField]) -> None:
        self._fields = fields
        holding = {value: [i for i, field in enumerate(fields) if field.counts[value]] for value in range(UNLABELLED)}
        # The fields that hold each phase.
        self._holding = {value: found for value, found in holding.items() if found}
        self._known: dict[tuple[int, int], NDArray[np.int64 | np.int32]] = {}
        kept = 0
        for value, found in self._holding.items():
            for index in found:
                kept += int(min(fields[index].counts[value], _POSITIONS_OF_A_FIELD))
                if kept > MOST_POSITIONS:
                    return
                # Fields of 2 ** 31 pixels are refused long before.
                self._known[index, value] = self._found(index, value).astype(np.int32)

    def drawn(self, rng: np.random.Generator) -> tuple[int, tuple[int, int]]:
        """Draw a phase evenly, of it a field evenly, and in it a pixel (y, x) of the phase. Returns field and pixel."""
        values = list(self._holding)
        value = values[int(rng.integers(len(values)))]
        index = self._holding[value][int(rng.integers(len(self._holding[value])))]
        where = self._known[index, value] if (index, value) in self._known else self._found(index, value)
        y, x = divmod(int(where[int(rng.integers(where.size))]), self._fields[index].shape[1])
        return index, (y, x)

    def _found(self, index: int, value: int) -> NDArray[np.int64 | np.int32]:
        """Flat positions of a phase in a field, thinned."""
        where = np.flatnonzero(self._fields[index].labels == value)
        return where[:: 1 + where.size // _POSITIONS_OF_A_FIELD]


def _between(rng: np.random.Generator, side: int, inset: float) -> float:
    return float(rng.uniform(inset, side - inset)) if side > 2 * inset else (side - 1) / 2
