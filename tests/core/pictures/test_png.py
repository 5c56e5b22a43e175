"""The streaming mask writer against an ordinary reader."""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from microseg.core.pictures.png import MaskWriter


@given(st.integers(1, 40), st.integers(1, 40), st.lists(st.integers(0, 40), max_size=6), st.integers(0, 99))
def test_any_cut_into_rows_reads_back(height: int, width: int, cuts: list[int], seed: int) -> None:
    labels = np.random.default_rng(seed).integers(0, 3, (height, width)).astype(np.uint8)
    labels[0] = 255
    stream = io.BytesIO()
    writer = MaskWriter(stream, height, width, ["#0072b2", "#e69f00", "#009e73"])
    edges = [0, *sorted(min(cut, height) for cut in cuts), height]
    for start, stop in pairwise(edges):
        writer.write(labels[start:stop])
    writer.finish()
    image = Image.open(io.BytesIO(stream.getvalue()))
    assert image.mode == "P"
    assert np.array_equal(np.asarray(image), labels)
    palette = image.getpalette()
    assert palette is not None and palette[3:6] == [0xE6, 0x9F, 0x00]
    assert np.asarray(image.convert("RGBA"))[0, 0, 3] == 0


def test_a_mask_states_the_orientation_of_its_micrograph_and_keeps_the_stored_grid() -> None:
    streams = {}
    for orientation in range(1, 9):
        stream = io.BytesIO()
        writer = MaskWriter(stream, 2, 3, ["#0072b2"], orientation)
        writer.write(np.zeros((2, 3), np.uint8))
        writer.finish()
        streams[orientation] = stream.getvalue()
        image = Image.open(io.BytesIO(stream.getvalue()))
        assert np.asarray(image).shape == (2, 3)
        assert image.getexif().get(274, 1) == orientation
    assert b"eXIf" not in streams[1]
