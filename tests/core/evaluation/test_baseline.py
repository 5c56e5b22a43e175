"""Otsu as a metallographer would use it."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.evaluation.baseline import assign, best_assignment, otsu_classes
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


def test_a_field_of_one_grey_is_one_class() -> None:
    assert not otsu_classes(np.full((20, 30), 7, np.uint8), 3).any()
