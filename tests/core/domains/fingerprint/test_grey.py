"""Noise and sharpness, on pictures whose noise and blur are known."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.domains.fingerprint.grey import centre_of, focus_of, noise_of
from tests.core.domains.fingerprint.samples import as_bytes


@cache
def regions() -> NDArray[np.float32]:
    """Bright regions on dark ground with sharp borders, four times as large as the pictures."""
    noise = np.random.default_rng(0).normal(size=(256, 256)).astype(np.float32)
    return (cv2.resize(cv2.GaussianBlur(noise, (0, 0), 10), (1024, 1024)) > 0).astype(np.float32)


def picture(blur_px: float, noise: float) -> NDArray[np.uint8]:
    """The regions, blurred, reduced, then with noise."""
    small = cv2.resize(cv2.GaussianBlur(regions(), (0, 0), 4 * blur_px), (256, 256), interpolation=cv2.INTER_AREA)
    return as_bytes(80 + 80 * small + noise * np.random.default_rng(1).normal(size=small.shape))


@pytest.mark.parametrize("noise", [0, 2, 6, 15])
def test_noise_is_measured_beside_structure(noise: float) -> None:
    assert noise_of(picture(1, noise)) == pytest.approx(noise, abs=0.3 + 0.05 * noise)


@pytest.mark.parametrize("blur_px", [1, 2, 4])
def test_focus_is_the_width_of_edges(blur_px: float) -> None:
    # From 10 to 90 % of a Gaussian edge: 2.563 standard deviations.
    found = focus_of(picture(blur_px, 1), 1)
    assert found == pytest.approx(2.563 * blur_px, rel=0.25)


def test_noise_alone_has_no_edges() -> None:
    grey = as_bytes(128 + 20 * np.random.default_rng(0).normal(size=(128, 128)))
    assert focus_of(grey, noise_of(grey)) is None


def test_the_centre_of_a_large_field() -> None:
    grey = np.arange(30, dtype=np.uint8).reshape(5, 6)
    assert centre_of(grey, 2).tolist() == [[8, 9], [14, 15]]
    assert centre_of(grey, 10).shape == (5, 6)
