"""Overlays of small and large fields, whole or in stripes."""

from __future__ import annotations

import numpy as np
import pytest

from microseg.core.pictures.overlay import MAX_SIDE_PX, Overlay, Plain, jpeg, thumbnail

COLORS = ["#0072b2", "#e69f00"]


def _overlay(grey: np.ndarray, labels: np.ndarray, step: int) -> np.ndarray:
    overlay = Overlay(grey.shape[0], grey.shape[1], COLORS)
    for start in range(0, len(grey), step):
        overlay.add(grey[start : start + step], labels[start : start + step])
    return overlay.finish()


def test_colors_blend_with_the_grey() -> None:
    picture = _overlay(np.full((4, 4), 100, np.uint8), np.ones((4, 4), np.uint8), 4)
    expected = [round(0.6 * 100 + 0.4 * value) for value in (0x00, 0x9F, 0xE6)]
    assert picture.shape == (4, 4, 3) and picture[0, 0].tolist() == expected


@pytest.mark.parametrize(("height", "width"), [(37, 2 * MAX_SIDE_PX + 5), (MAX_SIDE_PX + 3, 11), (50, 60)])
def test_stripes_equal_the_whole_and_the_size_is_bounded(height: int, width: int) -> None:
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 256, (height, width), np.uint8)
    labels = rng.integers(0, 2, (height, width)).astype(np.uint8)
    whole = _overlay(grey, labels, height)
    assert max(whole.shape) <= MAX_SIDE_PX
    assert np.array_equal(_overlay(grey, labels, 7), whole)


@pytest.mark.parametrize(("height", "width"), [(37, 2 * MAX_SIDE_PX + 5), (50, 60)])
def test_the_plain_picture_lies_under_the_overlay_pixel_by_pixel(height: int, width: int) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (height, width), np.uint8)
    plain = Plain(height, width)
    for start in range(0, height, 7):
        plain.add(grey[start : start + 7])
    picture = plain.finish()
    black = Overlay(height, width, ["#000000"])
    black.add(grey, np.zeros(grey.shape, np.uint8))
    overlay = black.finish()
    assert picture.shape == overlay.shape[:2]
    assert np.abs(0.6 * picture - overlay[..., 0]).max() <= 1
    assert jpeg(picture)[:2] == b"\xff\xd8"


def test_pictures_are_jpeg() -> None:
    picture = np.zeros((900, 1200, 3), np.uint8)
    assert jpeg(picture)[:2] == thumbnail(picture)[:2] == b"\xff\xd8"
    assert len(thumbnail(picture)) < len(jpeg(picture))
