"""Confusion, IoU with absent phases, and fractions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.evaluation.metrics import confusion_matrix, fractions, iou, mean_iou

PHASES = 4


def labels(seed: int, size: int, unlabelled: float = 0.0) -> NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    found = rng.integers(0, PHASES, size, np.uint8)
    found[rng.random(size) < unlabelled] = UNLABELLED
    return found


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 300), unlabelled=st.sampled_from([0.0, 0.3, 1.0]))
def test_equals_counting_one_by_one(seed: int, size: int, unlabelled: float) -> None:
    true, predicted = labels(seed, size, unlabelled), labels(seed + 1, size)
    confusion = confusion_matrix(true, predicted, PHASES)
    assert confusion.dtype == np.int64
    known = [(int(t), int(p)) for t, p in zip(true, predicted, strict=True) if t != UNLABELLED]
    for t in range(PHASES):
        for p in range(PHASES):
            assert confusion[t, p] == known.count((t, p))
    for phase, value in enumerate(iou(confusion)):
        here, there = ([pair[side] == phase for pair in known] for side in (0, 1))
        union = sum(a or b for a, b in zip(here, there, strict=True))
        both = sum(a and b for a, b in zip(here, there, strict=True))
        assert math.isnan(value) if union == 0 else value == pytest.approx(both / union)


def test_a_phase_that_nobody_saw_counts_nowhere() -> None:
    confusion = confusion_matrix(np.array([0, 0, 1], np.uint8), np.array([0, 0, 1], np.uint8), 3)
    assert math.isnan(iou(confusion)[2])
    assert mean_iou(confusion) == 1.0


def test_a_phase_that_was_invented_has_zero() -> None:
    confusion = confusion_matrix(np.array([0, 0, 1], np.uint8), np.array([0, 2, 1], np.uint8), 3)
    assert iou(confusion).tolist() == [0.5, 1.0, 0.0]
    assert mean_iou(confusion) == 0.5


def test_fractions_are_of_the_labelled_area() -> None:
    true = np.array([0, 1, 1, 1, UNLABELLED], np.uint8)
    predicted = np.array([0, 0, 1, 1, 1], np.uint8)
    there, found = fractions(confusion_matrix(true, predicted, 2))
    assert there.tolist() == [0.25, 0.75]
    assert found.tolist() == [0.5, 0.5]


def test_nothing_labelled_is_not_a_number() -> None:
    nothing = confusion_matrix(np.full(5, UNLABELLED, np.uint8), np.zeros(5, np.uint8), 2)
    assert math.isnan(mean_iou(nothing))
    assert all(np.isnan(part).all() for part in fractions(nothing))


@pytest.mark.parametrize(("true", "predicted"), [([0, 1], [0]), ([0, 2], [0, 1]), ([0, 1], [0, 2]), ([0, 1], [0, 255])])
def test_what_cannot_be_compared_is_refused(true: list[int], predicted: list[int]) -> None:
    with pytest.raises(ValueError, match=r"shapes differ|labels up to"):
        confusion_matrix(np.array(true, np.uint8), np.array(predicted, np.uint8), 2)
