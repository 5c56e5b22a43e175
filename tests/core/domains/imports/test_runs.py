"""Run-length coded masks, against an encoder."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microseg.core.domains.imports.runs import checked_runs, coco_runs, from_runs
from microseg.core.errors import InputError


def compressed(runs: list[int]) -> str:
    """COCO's characters: five bits at a time, and the difference to the number two before from the fourth on."""
    text = ""
    for index, run in enumerate(runs):
        value = run - runs[index - 2] if index > 2 else run
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr(48 + bits + (32 if more else 0))
            if not more:
                break
    return text


@given(st.lists(st.integers(0, 300_000), max_size=12))
def test_compressed_runs(runs: list[int]) -> None:
    assert coco_runs(compressed(runs), "a") == runs


def test_known_texts() -> None:
    assert coco_runs("4", "a") == [4]
    assert coco_runs("04", "a") == [0, 4]
    assert coco_runs("`0", "a") == [16]
    assert coco_runs("o0", "a") == [31]


@pytest.mark.parametrize("text", ["a b", "o", "ooooooooo0", "\u00e9"])
def test_texts_that_are_no_runs(text: str) -> None:
    with pytest.raises(InputError, match=r"annotation 3: .*(no run-length coded mask|is cut off)"):
        coco_runs(text, "annotation 3")


def test_by_columns_and_by_rows() -> None:
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)
    for runs, by_columns, expected in (
        ([2, 1, 1, 2], True, mask),
        ([1, 2, 2, 1], False, mask),
        ([0, 6], False, np.ones((2, 3), bool)),
    ):
        found = from_runs(checked_runs(runs, 2, 3, "a"), 2, 3, by_columns=by_columns)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("runs", [[5], [7], [-1, 7], [1.0, 5], ["6"], [10**30], [6] + [0] * 7, [True, 5]])
def test_runs_that_do_not_fill_the_mask(runs: list[int]) -> None:
    with pytest.raises(InputError, match=r"annotation 3: its runs \(RLE\)"):
        checked_runs(runs, 2, 3, "annotation 3")
