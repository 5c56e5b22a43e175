"""Filled rows against a slow reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from microseg.core.preparation.filling import filled


def slowly(row: NDArray[np.uint8], outside: NDArray[np.bool_], level: int) -> list[int]:
    """One pixel after the other."""
    inside = np.flatnonzero(~outside).tolist()
    values = []
    for x in range(len(row)):
        if not outside[x]:
            values.append(int(row[x]))
            continue
        left = max((i for i in inside if i < x), default=None)
        right = min((i for i in inside if i > x), default=None)
        if left is None and right is None:
            values.append(level)
            continue
        use_left = right is None or (left is not None and x - left <= right - x)
        edge, step = (left, -1) if use_left else (right, 1)
        assert edge is not None
        run = 1
        while edge + step * run in inside:
            run += 1
        values.append(int(row[edge + step * ((abs(x - edge) - 1) % run)]))
    return values


@given(outside=arrays(bool, st.tuples(st.integers(1, 4), st.integers(1, 25))), seed=st.integers(0, 9))
def test_each_pixel_mirrors_the_nearest_run(outside: NDArray[np.bool_], seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 256, outside.shape, np.uint8)
    before = rows.copy()
    found = filled(rows, outside, 99)
    assert found.tolist() == [slowly(row, out, 99) for row, out in zip(rows, outside, strict=True)]
    assert np.array_equal(rows, before)


@pytest.mark.parametrize("width", [1, 7])
def test_measured_rows_stay_as_they_are(width: int) -> None:
    rows = np.arange(3 * width, dtype=np.uint8).reshape(3, width)
    assert filled(rows, np.zeros(rows.shape, bool), 0) is rows
