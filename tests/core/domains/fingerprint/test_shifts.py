"""Masks that lie beside their picture are found; correct, careless and few labels are left alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.domains.fingerprint.shifts import shift_of
from tests.core.domains.fingerprint.samples import picture_of, structure


def moved(labels: NDArray[np.uint8], dy: int, dx: int) -> NDArray[np.uint8]:
    wide = np.pad(labels, 20, mode="edge")
    return wide[20 - dy : 20 - dy + labels.shape[0], 20 - dx : 20 - dx + labels.shape[1]].copy()


@pytest.mark.parametrize(("dy", "dx"), [(3, 0), (0, -3), (-4, 5), (10, 0), (8, -10), (-6, -2)])
def test_a_shifted_mask(dy: int, dx: int) -> None:
    labels = structure(3)
    found = shift_of(picture_of(labels), moved(labels, dy, dx))
    assert found is not None
    assert max(abs(found.dy_px + dy), abs(found.dx_px + dx)) <= 1
    assert found.edges_moved > 1.3 * found.edges_here


@pytest.mark.parametrize("size_px", [2.5, 5, 12])
@pytest.mark.parametrize("offset", [(0, 0), (1, 0), (-1, 1)])
def test_masks_that_fit(size_px: float, offset: tuple[int, int]) -> None:
    for seed in range(2):
        labels = structure(seed, size_px=size_px)
        assert shift_of(picture_of(labels, noise=15), moved(labels, *offset)) is None


def test_a_shift_in_a_large_field() -> None:
    labels = np.zeros((300, 1500), np.uint8)
    labels[:, 1100:1400] = structure(1, 300, 300)
    found = shift_of(picture_of(labels), moved(labels, 0, 6))
    assert found is not None and (found.dy_px, found.dx_px) == (0, -6)


def test_borders_drawn_too_far_outside_are_no_shift() -> None:
    labels = structure(2, size_px=8)
    assert shift_of(picture_of(labels), np.asarray(cv2.dilate(labels, np.ones((7, 7), np.uint8)), np.uint8)) is None
    layer = np.zeros((256, 256), np.uint8)
    layer[100:160] = 1
    thick = np.zeros_like(layer)
    thick[95:165] = 1
    assert shift_of(picture_of(layer), thick) is None


def test_labels_without_relation_to_the_picture_have_no_shift() -> None:
    for seed in range(4):
        assert shift_of(picture_of(structure(seed)), structure(seed + 10)) is None


def test_few_borders_tell_nothing() -> None:
    labels = structure(4)
    picture = picture_of(labels)
    scribbles = np.full_like(labels, 255)
    scribbles[100:104] = moved(labels, 5, 0)[100:104]
    scribbles[::2, :] = 255
    for few in (np.full_like(labels, 255), np.zeros_like(labels), scribbles):
        assert shift_of(picture, few) is None
    assert shift_of(picture[:20, :20], labels[:20, :20]) is None
