"""Otsu as a metallographer would use it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.filters import threshold_multiotsu

from microseg.core.evaluation.baseline import assign, best_assignment, multi_otsu_thresholds, otsu_classes
from microseg.core.evaluation.metrics import confusion_matrix, mean_iou


def bands(greys: list[int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Image (60, 40 a band) with noise, and the band of every pixel."""
    truth = np.repeat(np.arange(len(greys), dtype=np.uint8), 40)[None].repeat(60, 0)
    noise = np.random.default_rng(0).normal(0, 6, truth.shape)
    return np.clip(np.array(greys)[truth] + noise, 0, 255).astype(np.uint8), truth


@pytest.mark.parametrize("greys", [[60, 180], [180, 60], [40, 120, 200], [120, 200, 40], [30, 90, 150, 210]])
def test_finds_grey_classes_and_their_phases(greys: list[int]) -> None:
    image, truth = bands(greys)
    classes = otsu_classes(image, len(greys))
    assert classes.dtype == np.uint8
    confusion = confusion_matrix(truth, classes, len(greys))
    order = best_assignment(confusion)
    assert order == tuple(np.argsort(greys).tolist())
    assert mean_iou(assign(confusion, order)) > 0.9
    assert mean_iou(assign(confusion, order)) == pytest.approx(
        mean_iou(confusion_matrix(truth, np.array(order, np.uint8)[classes], len(greys)))
    )


@given(
    st.integers(0, 2**32 - 1), st.integers(2, 4), st.sampled_from([3, 20, 256]), st.sampled_from([(16, 16), (60, 80)])
)
@settings(max_examples=40, deadline=None)
def test_thresholds_are_those_of_scikit_image(seed: int, classes: int, greys: int, shape: tuple[int, int]) -> None:
    """An exhaustive search over the same criterion."""
    rng = np.random.default_rng(seed)
    values = rng.choice(256, greys, replace=False)
    image = values[rng.integers(0, greys, shape)].astype(np.uint8)
    counts = np.bincount(image.ravel(), minlength=256)
    if np.count_nonzero(counts) < classes:
        return
    ours = multi_otsu_thresholds(counts, classes)
    theirs = threshold_multiotsu(image, classes=classes)  # type: ignore[no-untyped-call]
    assert variance_between(counts, ours) >= variance_between(counts, theirs) * (1 - 1e-12)
    # It computes in float32 and may miss the best one, so two classes are held against all thresholds as well.
    if classes == 2:
        best = max(variance_between(counts, np.array([threshold])) for threshold in range(255))
        assert variance_between(counts, ours) == pytest.approx(best, rel=1e-12)


def variance_between(counts: NDArray[np.int64], thresholds: NDArray[np.int64]) -> float:
    """The sum over classes of their mean grey value squared, by their share of the pixels."""
    edges = [0, *(int(threshold) + 1 for threshold in thresholds), 256]
    found = 0.0
    for low, high in pairwise(edges):
        if (number := counts[low:high].sum()) > 0:
            found += float((counts[low:high] * np.arange(low, high)).sum()) ** 2 / number
    return found


def test_a_field_of_one_grey_is_one_class() -> None:
    assert not otsu_classes(np.full((20, 30), 7, np.uint8), 3).any()
