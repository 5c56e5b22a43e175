"""Batches: image and mask stay aligned, labels are never invented, and a step always draws the same tiles."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.domain import DomainField
from microseg.core.phases import UNLABELLED
from microseg.train.augmentation import Augmentation, appearance, cut, drawn, transform_matrix
from microseg.train.datasets import LabelledField, TileSampler, phase_frequencies
from microseg.train.recipe import BasicAugmentation, NoAugmentation, RandomisedAugmentation

LIMITS = (90, 165)
AUGMENTATIONS: list[Augmentation] = [NoAugmentation(), BasicAugmentation(), RandomisedAugmentation()]
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


def sampler(fields: list[LabelledField], augmentation: Augmentation, **changes: object) -> TileSampler:
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
    seed: int, augmentation: Augmentation, y: float, x: float, side: int
) -> None:
    image = waves()
    matrix = transform_matrix(augmentation, np.random.default_rng(seed), (y, x), side)
    tile, labels = cut(image, classes(image), matrix, side)
    assert tile.shape == labels.shape == (side, side)
    assert tile.dtype == labels.dtype == np.uint8
    assert disagree(tile, labels) == 0


def test_the_comparison_would_see_a_shift() -> None:
    image = waves()
    assert disagree(image[3:], classes(image)[:-3]) > 0.005


@pytest.mark.parametrize("augmentation", [NoAugmentation(), BasicAugmentation()], ids=lambda a: str(a.kind))
def test_a_batchs_labels_are_those_of_the_tiles_cores(augmentation: Augmentation) -> None:
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
    batch = sampler([field], RandomisedAugmentation()).batch(step)
    assert set(np.unique(batch.labels)) <= {0, 2, UNLABELLED}


@pytest.mark.parametrize("augmentation", AUGMENTATIONS, ids=lambda a: str(a.kind))
def test_a_step_draws_the_same_tiles_at_any_time(augmentation: Augmentation) -> None:
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
def test_appearance_changes_grey_values_alone(augmentation: Augmentation) -> None:
    image = waves()
    labels = classes(image)
    before = labels.copy()
    tile = appearance(augmentation, image, labels, np.random.default_rng(3))
    assert tile.shape == image.shape
    assert tile.dtype == np.uint8
    assert np.array_equal(labels, before)
    changed = not np.array_equal(tile, image)
    assert changed == isinstance(augmentation, RandomisedAugmentation)
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
