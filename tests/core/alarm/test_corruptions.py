"""Graded corruptions."""

import numpy as np
import pytest

from microseg.core.alarm.corruptions import KINDS, corrupted

IMAGE = np.random.default_rng(1).normal(120, 20, (96, 128)).clip(0, 255).astype(np.uint8)
LABELS = (IMAGE > 120).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_every_level_keeps_size_and_type(kind: str) -> None:
    for level in KINDS[kind]:
        found = corrupted(IMAGE, LABELS, kind, level, 1)
        assert found.image.shape == IMAGE.shape
        assert found.image.dtype == np.uint8
        assert found.labels.shape == IMAGE.shape
        assert not np.array_equal(found.image, IMAGE)


def test_only_the_scale_moves_labels() -> None:
    assert {kind for kind in KINDS if corrupted(IMAGE, LABELS, kind, KINDS[kind][0], 1).labels is not LABELS} == {
        "scale"
    }


def test_a_full_inversion_and_a_contrast_are_exact() -> None:
    assert np.array_equal(corrupted(IMAGE, LABELS, "inversion", 1.0, 1).image, 255 - IMAGE)
    assert corrupted(IMAGE, LABELS, "contrast", 0.5, 1).image.std() == pytest.approx(IMAGE.std() / 2, rel=0.02)


def test_the_same_seed_draws_the_same() -> None:
    first, second, third = (corrupted(IMAGE, LABELS, "noise", 10.0, seed).image for seed in (1, 1, 2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)
