"""Batches: image and mask stay aligned, labels are never invented, and a step always draws the same tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.domains.domain import DomainField
from microseg.core.domains.phases import UNLABELLED
from microseg.train.common.augmentation import appearance, cut, displacement, drawn, transform_matrix
from microseg.train.common.datasets import LabelledField, TileSampler, grid_of, phase_frequencies
from microseg.train.common.recipe import (
    AugmentationConfig,
    BasicAugmentation,
    ExtendedAugmentation,
    NoAugmentation,
    RandomisedAugmentation,
)

LIMITS = (90, 165)
AUGMENTATIONS: list[AugmentationConfig] = [
    NoAugmentation(),
    BasicAugmentation(),
    ExtendedAugmentation(),
    RandomisedAugmentation(),
]
# Grey values change by at most 16 per pixel here, and linear and nearest sampling are at most 0.71 px apart.
TOLERANCE_GREY = 14


def waves(height: int = 90, width: int = 110) -> NDArray[np.uint8]:
    """Smooth, not symmetric, three grey classes."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    return np.asarray(127.5 + 62 * np.sin(x / 9 + y / 31) + 62 * np.cos(y / 7)).astype(np.uint8)


def classes(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The mask drawn from an image."""
    return np.digitize(grey, LIMITS).astype(np.uint8)


def disagree(grey: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    """Share of the pixels, clear of the class limits, whose label is not that of their grey value."""
    clear = np.all([np.abs(grey.astype(int) - limit) > TOLERANCE_GREY for limit in LIMITS], axis=0)
    assert clear.mean() > 0.3, "there is something to compare"
    return float((classes(grey) != labels)[clear].mean())


def labelled(image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> LabelledField:
    return LabelledField(DomainField("a.tif", Path("a.tif"), None, "a"), "0" * 64, image, labels)


def sampler(fields: list[LabelledField], augmentation: AugmentationConfig, **changes: object) -> TileSampler:
    values: dict[str, object] = {"core_px": 48, "halo_px": 10, "batch": 3, "rare_phase_share": 0.3, "seed": (0, 1)}
    return TileSampler(fields, augmentation, **(values | changes))  # type: ignore[arg-type]


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 2**31),
    augmentation=st.sampled_from(AUGMENTATIONS),
    y=st.floats(-20, 110),
    x=st.floats(-20, 130),
    side=st.sampled_from([40, 63]),
)
def test_a_mask_drawn_from_the_image_is_still_its_mask(
    seed: int, augmentation: AugmentationConfig, y: float, x: float, side: int
) -> None:
    image = waves()
    rng = np.random.default_rng(seed)
    matrix = transform_matrix(augmentation, rng, (y, x), side)
    tile, labels = cut(image, classes(image), matrix, side, displacement(augmentation, rng, side))
    assert tile.shape == labels.shape == (side, side)
    assert tile.dtype == labels.dtype == np.uint8
    assert disagree(tile, labels) == 0


def test_the_comparison_would_see_a_shift() -> None:
    image = waves()
    assert disagree(image[3:], classes(image)[:-3]) > 0.005


@pytest.mark.parametrize("augmentation", [NoAugmentation(), BasicAugmentation()], ids=lambda a: str(a.kind))
def test_a_batchs_labels_are_those_of_the_tiles_cores(augmentation: AugmentationConfig) -> None:
    image = waves()
    batch = sampler([labelled(image, classes(image))], augmentation).batch(5)
    assert batch.tiles.shape == (3, 1, 68, 68)
    assert batch.labels.shape == (3, 48, 48)
    for tile, labels in zip(batch.tiles[:, 0, 10:-10, 10:-10], batch.labels, strict=True):
        assert disagree(tile, labels) == 0


@settings(deadline=None, max_examples=25)
@given(step=st.integers(0, 10_000), height=st.integers(20, 90), width=st.integers(20, 90))
def test_labels_are_never_invented(step: int, height: int, width: int) -> None:
    rng = np.random.default_rng(step)
    labels = rng.choice(np.array([0, 2, UNLABELLED], np.uint8), (height, width))
    labels[0, 0] = 0
    field = labelled(rng.integers(0, 256, (height, width), np.uint8), labels)
    augmentation = ExtendedAugmentation() if step % 2 else RandomisedAugmentation()
    batch = sampler([field], augmentation).batch(step)
    assert set(np.unique(batch.labels)) <= {0, 2, UNLABELLED}


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda a: str(a.kind))
def test_a_step_draws_the_same_tiles_at_any_time(augmentation: AugmentationConfig) -> None:
    image = waves()
    fields = [labelled(image, classes(image)), labelled(image[::-1].copy(), classes(image)[::-1].copy())]
    first = sampler(fields, augmentation).batch(7)
    later = sampler(fields, augmentation)
    for step in (1, 9, 3):
        later.batch(step)
    again = later.batch(7)
    assert np.array_equal(first.tiles, again.tiles)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.tiles, later.batch(8).tiles)
    assert not np.array_equal(first.tiles, sampler(fields, augmentation, seed=(0, 2)).batch(7).tiles)


def test_rare_phases_are_looked_for() -> None:
    image = np.zeros((400, 400), np.uint8)
    labels = np.zeros_like(image)
    labels[200:204, 300:304] = 1

    def share(rare_phase_share: float) -> float:
        found = sampler([labelled(image, labels)], NoAugmentation(), rare_phase_share=rare_phase_share, batch=40)
        return float((found.batch(0).labels == 1).any((1, 2)).mean())

    assert share(0.0) < 0.2
    assert share(1.0) > 0.35


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda a: str(a.kind))
def test_appearance_changes_grey_values_alone(augmentation: AugmentationConfig) -> None:
    image = waves()
    labels = classes(image)
    before = labels.copy()
    tile = appearance(augmentation, image, labels, np.random.default_rng(3))
    assert tile.shape == image.shape
    assert tile.dtype == np.uint8
    assert np.array_equal(labels, before)
    changed = not np.array_equal(tile, image)
    assert changed == isinstance(augmentation, ExtendedAugmentation | RandomisedAugmentation)
    assert np.array_equal(tile, appearance(augmentation, image, labels, np.random.default_rng(3)))


def test_randomisation_leaves_a_share_of_the_tiles() -> None:
    half = RandomisedAugmentation(share=0.5)
    rng = np.random.default_rng(0)
    kinds = [drawn(half, rng).kind for _ in range(400)]
    assert 150 < kinds.count("basic") < 250
    assert {drawn(RandomisedAugmentation(), rng).kind for _ in range(50)} == {"randomised"}


def test_frequencies_are_of_the_labelled_area() -> None:
    labels = np.array([[0, 0, 0, 1, UNLABELLED]], np.uint8)
    assert phase_frequencies([labelled(labels, labels)], 3).tolist() == [0.75, 0.25, 0.0]


def test_elastic_deformation_moves_neighbours_together() -> None:
    moved = displacement(ExtendedAugmentation(elastic_px=6.0), np.random.default_rng(0), 636)
    assert moved is not None and moved.shape == (2, 636, 636)
    assert 3 < moved.std() < 8
    assert np.abs(np.diff(moved, axis=1)).max() < 1, "no fold: the deformed field stays in one piece"
    assert displacement(ExtendedAugmentation(elastic_px=0), np.random.default_rng(0), 64) is None
    assert displacement(BasicAugmentation(), np.random.default_rng(0), 64) is None


def test_deformation_changes_the_shape_of_things() -> None:
    image = waves()
    rng = np.random.default_rng(1)
    matrix = transform_matrix(NoAugmentation(), rng, (45, 55), 64)
    straight, _ = cut(image, image, matrix, 64)
    bent, _ = cut(image, image, matrix, 64, displacement(ExtendedAugmentation(), rng, 64))
    assert np.abs(straight.astype(int) - bent).mean() > 5


def test_the_grid_is_the_papers_four_tiles_each_once_an_epoch() -> None:
    """A 1024 x 717 px field, mirrored to a square, gives four cores of 512 px (Goetz et al. 2022)."""
    y, x = np.mgrid[:717, :1024]
    image = ((x // 512) * 100 + (y // 512) * 40 + 10).astype(np.uint8)
    field = labelled(image, (x // 512).astype(np.uint8))
    assert grid_of([field, field], 512) == [
        (k, (top + 255.5, left + 255.5)) for k in (0, 1) for top in (0, 512) for left in (0, 512)
    ]
    found = sampler([field], NoAugmentation(), core_px=512, halo_px=62, batch=2, rare_phase_share=0.0, on_grid=True)
    for epoch in range(3):
        tiles = np.concatenate([found.batch(2 * epoch + half).tiles for half in range(2)])
        assert tiles.shape == (4, 1, 636, 636)
        assert sorted(tiles[:, 0, 100, 318].tolist()) == [10, 50, 110, 150]
    first_core = found.batch(0).tiles[:, 0, 62:-62, 62:-62]
    assert all((core == core[0, 0]).mean() > 0.35 for core in first_core)


def test_threads_draw_what_one_thread_draws() -> None:
    image = waves()
    fields = [labelled(image, classes(image))]
    with sampler(fields, ExtendedAugmentation(), workers=3) as several:
        assert np.array_equal(several.batch(4).tiles, sampler(fields, ExtendedAugmentation()).batch(4).tiles)


def test_tiles_of_scribbles_hold_labels() -> None:
    image = np.zeros((400, 600), np.uint8)
    labels = np.full_like(image, UNLABELLED)
    labels[50:90, 60:63] = 1
    labels[300:303, 400:440] = 0
    drawn_tiles = sampler([labelled(image, labels)], NoAugmentation(), rare_phase_share=0.0, batch=60).batch(0)
    assert (drawn_tiles.labels != UNLABELLED).any((1, 2)).all()
    assert {0, 1} <= set(np.unique(drawn_tiles.labels))


def test_tiles_of_labelled_fields_and_of_targets_lie_anywhere() -> None:
    """A field without any label is a target of adaptation: its tiles are drawn as those of a field that is all labelled."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (200, 300), np.uint8)
    whole, target = (
        sampler([labelled(image, np.full_like(image, value))], NoAugmentation(), rare_phase_share=0.0).batch(3).tiles
        for value in (0, UNLABELLED)
    )
    assert np.array_equal(whole, target)
