"""Intercept lengths, against counting by hand and against a slow reference."""

from __future__ import annotations

from itertools import groupby

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.domains.fingerprint import chords
from microseg.core.domains.fingerprint.chords import Chords, chords_of


def slow(labels: NDArray[np.uint8], phase: int) -> tuple[list[int], list[int]]:
    """Lengths of whole and of cut intercepts, one by one."""
    whole: list[int] = []
    cut: list[int] = []
    for row in labels:
        runs = [(int(value), len(list(pixels))) for value, pixels in groupby(row)]
        for place, (value, length) in enumerate(runs):
            beside = [runs[other][0] if 0 <= other < len(runs) else 255 for other in (place - 1, place + 1)]
            if value == phase:
                (cut if 255 in beside else whole).append(length)
    return whole, cut


def test_intercepts_by_hand() -> None:
    labels = np.array([[0, 0, 1, 1, 1, 0], [1, 0, 255, 1, 0, 0]], np.uint8)
    whole, cut = chords_of(labels, 2)
    assert (whole.number.tolist(), whole.total.tolist(), whole.squares.tolist()) == ([0, 1], [0, 3], [0, 9])
    assert (cut.number.tolist(), cut.total.tolist()) == ([4, 2], [6, 2])
    assert (whole.mean(1), whole.std(1), whole.mean(0), whole.std(0)) == (3, 0, None, None)
    assert cut.in_units(0.5).mean(0) == 0.75


@pytest.mark.parametrize("block", [1, 50, 1 << 20])
def test_blocks_of_rows_are_counted_as_the_whole(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.random.default_rng(1).choice(np.array([0, 1, 2, 255], np.uint8), (37, 23))
    monkeypatch.setattr(chords, "_BLOCK_PX", block)
    for turned in (labels, labels.T):
        found: tuple[Chords, Chords] = chords_of(turned, 3)
        for phase in range(3):
            for sums, lengths in zip(found, slow(turned, phase), strict=True):
                assert sums.number[phase] == len(lengths)
                assert sums.mean(phase) == pytest.approx(np.mean(lengths))
                assert sums.std(phase) == pytest.approx(np.std(lengths))
