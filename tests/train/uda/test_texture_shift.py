from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.train.uda.criteria import LEAST_FIELDS, texture, texture_shift
from microseg.train.uda.verdict import SHIFTED


def _field(
    seed: int, share: float = 0.5, grain: float = 2.0, dark: float = 90
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Two phases, `share` of the area the brighter one, with noise of a grain size in px."""
    rng = np.random.default_rng(seed)
    labels = (np.indices((256, 256))[1] < 256 * share).astype(np.uint8)
    noise = cv2.GaussianBlur(rng.standard_normal((256, 256)).astype(np.float32), (0, 0), grain)
    grey = np.where(labels == 1, 150, dark) + rng.normal(0, 2) + 10 * noise / noise.std()
    return np.clip(grey, 0, 255).astype(np.uint8), labels


def _textures(seeds: range, **changes: float) -> list[NDArray[np.float64]]:
    return [texture(*_field(seed, **changes), phases=2) for seed in seeds]


def test_other_fractions_are_no_shift_and_another_grain_is_one() -> None:
    source = _textures(range(10))
    assert texture_shift(source, _textures(range(100, 106))) < SHIFTED
    assert texture_shift(source, _textures(range(100, 106), share=0.2)) < SHIFTED
    assert texture_shift(source, _textures(range(100, 106), grain=2.6)) > 2 * SHIFTED
    assert texture_shift(source, _textures(range(100, 106), dark=110)) > 2 * SHIFTED


def test_a_phase_that_is_not_there_tells_nothing_and_few_fields_are_not_enough() -> None:
    image, labels = _field(0)
    alone = texture(image, np.zeros_like(labels), phases=2)
    assert np.isfinite(alone[0]).all() and np.isnan(alone[1]).all()
    source = _textures(range(LEAST_FIELDS))
    assert np.isfinite(texture_shift(source, [alone]))
    assert texture_shift(source[1:], [alone]) == np.inf
    assert texture_shift(source, [np.full_like(alone, np.nan)]) == np.inf


def test_fields_that_are_all_alike_do_not_make_rounding_a_shift() -> None:
    image, labels = _field(0)
    same = [texture(image, labels, phases=2)] * 5
    assert texture_shift(same, same[:2]) == pytest.approx(0, abs=1e-9)
    assert texture_shift(same, [texture(image + np.uint8(1), labels, phases=2)]) == pytest.approx(2, abs=0.3)
