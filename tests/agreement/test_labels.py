"""Differences between label images."""

from __future__ import annotations

import numpy as np
import pytest

from microseg.agreement.labels import compare_labels


def test_difference_is_pooled() -> None:
    expected = [np.zeros((10, 10), np.uint8), np.ones((10, 10), np.uint8)]
    found = [image.copy() for image in expected]
    found[0][0, :4] = 2
    found[1][0, :2] = 0
    seen = compare_labels(found, expected, 3)
    assert seen.labels == pytest.approx(0.03)
    assert seen.points == pytest.approx((1.0, 1.0, 2.0))
    assert seen.pixels == 200
