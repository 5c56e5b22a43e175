"""Blocks of fields: every block holds every phase where that can be, and no fold learns a label that it is scored on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.domains.phases import UNLABELLED
from microseg.core.errors import InputError
from microseg.core.schemas.run import Block
from microseg.train.common.fields.splitting import (
    blocks_of,
    learned_labels,
    region_of,
    scored_labels,
)

Labels = NDArray[np.uint8]


def phases_in(labels: Labels) -> set[int]:
    return set(np.unique(labels).tolist()) - {UNLABELLED}


def _checked(labels: Labels, folds: int) -> Sequence[Block]:
    """The blocks of a field, which cover it once, and what their folds learn and are scored on."""
    blocks = blocks_of(labels, "0" * 64, folds)
    covered = np.zeros(labels.shape, int)
    for block in blocks:
        covered[region_of(block)] += 1
        learned, scored = learned_labels(labels, block), scored_labels(labels, block)
        assert not ((learned != UNLABELLED) & (scored != UNLABELLED)).any()
        for found in (learned, scored):
            known = found != UNLABELLED
            assert np.array_equal(found[known], labels[known])
        assert np.array_equal(learned[covered == 0], labels[covered == 0])
        assert phases_in(scored) == phases_in(labels[region_of(block)])
    assert (covered == 1).all()
    assert [block.fold for block in blocks] == list(range(folds))
    return blocks


@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(4, 70),
    width=st.integers(4, 70),
    folds=st.integers(2, 4),
    share=st.floats(0, 1),
    seed=st.integers(0),
)
def test_blocks_cover_a_field_once(height: int, width: int, folds: int, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, (height, width), np.uint8)
    labels[rng.random((height, width)) < share] = UNLABELLED
    labels[0, 0] = 1
    _checked(labels, folds)


def test_a_field_that_is_alike_everywhere_is_quartered() -> None:
    labels = np.tile(np.array([[0, 1], [1, 2]], np.uint8), (40, 60))
    shapes = {(block.height_px, block.width_px) for block in _checked(labels, 4)}
    assert shapes == {(40, 60)}
    # A strip of an eighth of the smaller side beside other blocks is not scored.
    first = scored_labels(labels, blocks_of(labels, "", 4)[0])
    assert np.count_nonzero(first != UNLABELLED) == (40 - 5) * (60 - 5)


def test_scribbles_are_shared_by_the_blocks() -> None:
    """Two phases, each a few strokes in a corner of a field that is empty otherwise: halves by area hold one phase each."""
    labels = np.full((120, 160), UNLABELLED, np.uint8)
    labels[5:40, 8:10] = 0
    labels[5:40, 60:62] = 1
    for folds in (2, 3, 4):
        for block in _checked(labels, folds):
            assert phases_in(scored_labels(labels, block)) == phases_in(learned_labels(labels, block)) == {0, 1}


def test_a_phase_in_one_spot_is_learned_by_all_folds_but_one() -> None:
    labels = np.zeros((60, 60), np.uint8)
    labels[10, 10] = 1
    missing = [phases_in(learned_labels(labels, block)) for block in _checked(labels, 4)]
    assert sorted(missing, key=len) == [{0}, {0, 1}, {0, 1}, {0, 1}]


def test_a_field_smaller_than_its_blocks_is_refused() -> None:
    with pytest.raises(InputError, match="1 x 1 px cannot be cut into 4 blocks"):
        blocks_of(np.zeros((1, 1), np.uint8), "", 4)
