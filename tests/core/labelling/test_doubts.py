from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.labelling.doubts import doubtful_regions

SHAPE = (120, 160)


def disc(y: int, x: int, radius: int) -> NDArray[np.bool_]:
    rows, columns = np.indices(SHAPE)
    return np.asarray((rows - y) ** 2 + (columns - x) ** 2 <= radius**2)


def grains() -> NDArray[np.uint8]:
    """Two phases with winding borders."""
    noise = np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 12) > 0).astype(np.uint8)


def sure(*votes: NDArray[np.uint8], phases: int = 2, share: float = 0.95) -> NDArray[np.float32]:
    """Folds that are that sure of their labels."""
    rest = (1 - share) / (phases - 1)
    return np.stack(
        [np.stack([np.where(vote == phase, share, rest) for phase in range(phases)]) for vote in votes]
    ).astype(np.float32)


def test_a_relabelled_region_is_found_with_its_place_and_area() -> None:
    truth = grains()
    labels = truth.copy()
    depth = cv2.distanceTransform(truth, cv2.DIST_L2, 5)
    y, x = divmod(int(depth.argmax()), SHAPE[1])
    blob = disc(y, x, 9)
    inner = blob & (truth == 1)
    labels[blob] = 0
    (found,) = doubtful_regions(labels, sure(truth, truth))
    assert (found.label, found.folds_say) == (0, 1)
    assert found.confidence == pytest.approx(0.95)
    assert found.area_px == pytest.approx(np.count_nonzero(inner), rel=0.1)
    assert found.strength == pytest.approx(0.9 * found.area_px, rel=1e-4)
    height, width = found.inside.shape
    assert inner[found.top : found.top + height, found.left : found.left + width][found.inside].all()


@pytest.mark.parametrize("shift", [(2, 1), (-3, 2), (0, 5)])
def test_borders_that_lie_beside_the_labels_are_none(shift: tuple[int, int]) -> None:
    labels = grains()
    moved = np.roll(labels, shift, (0, 1))
    assert doubtful_regions(labels, sure(moved, labels if shift[1] > 4 else moved)) == []
    wider = np.asarray(cv2.dilate(labels, np.ones((9, 9), np.uint8)), np.uint8)
    found = doubtful_regions(labels, sure(wider, wider))
    assert sum(each.area_px for each in found) < 0.1 * np.count_nonzero(wider != labels)


def test_the_strongest_comes_first() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    votes = labels.copy()
    votes[disc(30, 30, 8)] = 1
    votes[disc(80, 100, 14)] = 2
    votes[disc(100, 20, 5)] = 2
    found = doubtful_regions(labels, sure(votes, votes, phases=3))
    assert [each.folds_say for each in found] == [2, 1, 2]
    assert found[0].strength > found[1].strength > found[2].strength


def test_what_one_fold_sees_as_labelled_or_none_is_sure_of_is_no_doubt() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    votes = labels.copy()
    votes[disc(60, 60, 12)] = 1
    assert len(doubtful_regions(labels, sure(votes))) == 1
    assert doubtful_regions(labels, sure(votes, labels)) == []
    assert doubtful_regions(labels, sure(votes, votes, share=0.6)) == []
    assert doubtful_regions(np.full_like(labels, 255), sure(votes)) == []
    small = labels.copy()
    small[disc(60, 60, 2)] = 1
    assert doubtful_regions(labels, sure(small)) == []


def test_regions_at_the_border_of_the_image_are_as_thick_as_they_show() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    strip, corner = labels.copy(), labels.copy()
    strip[:4] = 1
    corner[:20, :20] = 1
    assert doubtful_regions(labels, sure(strip)) == []
    (found,) = doubtful_regions(labels, sure(corner))
    assert (found.top, found.left) == (0, 0) and found.area_px > 380


def test_a_long_region_is_found_where_nothing_beside_it_has_the_phase() -> None:
    labels = np.zeros(SHAPE, np.uint8)
    votes = labels.copy()
    votes[50:58, 20:140] = 1
    (found,) = doubtful_regions(labels, sure(votes))
    assert found.inside.shape == (8, 120)
    labels[30:50] = 1
    votes[30:50] = 1
    assert doubtful_regions(labels, sure(votes)) == []
