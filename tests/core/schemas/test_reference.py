"""Reference tiles: packed and unpacked, and refused where they are damaged."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest

from microseg.core.errors import InputError
from microseg.core.schemas.reference import Reference, most_telling, reference_tile, unpack


def test_round_trip() -> None:
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (24, 40), np.uint8), rng.integers(0, 3, (24, 40), np.uint8)
    votes = rng.integers(0, 3, (5, 24, 40), np.uint8)
    tile = reference_tile("a", pixels, labels, votes, 3)
    reference = Reference(origin="synthetic", model_sha256="m", tiles=[tile])
    (again,) = Reference.parsed(reference.model_dump_json(), "e.onnx", "its entry", "copy it").tiles
    for wanted, found in zip((pixels, labels, votes), unpack(again, 5), strict=True):
        assert np.array_equal(wanted, found)
    assert again.fractions == pytest.approx([np.mean(labels == index) for index in range(3)])


@pytest.mark.parametrize("text", ["{", "{}", '{"reference_version": 1, "origin": "customer"}'])
def test_a_damaged_entry(text: str) -> None:
    with pytest.raises(InputError, match=r"e\.onnx: its entry is damaged .*Remedy: copy it\."):
        Reference.parsed(text, "e.onnx", "its entry", "copy it")


def test_damaged_pictures() -> None:
    zeros = np.zeros((16, 16), np.uint8)
    tile = reference_tile("a", zeros, zeros, zeros[None], 2)
    colour = base64.b64encode(cv2.imencode(".png", np.zeros((16, 16, 3), np.uint8))[1].tobytes()).decode()
    huge = base64.b64encode(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + (2**30).to_bytes(4, "big") * 2).decode()
    for text in ("?", "", base64.b64encode(b"no picture").decode(), colour, huge):
        with pytest.raises(InputError, match="is damaged"):
            unpack(tile.model_copy(update={"pixels": text}), 1)
    with pytest.raises(InputError, match="differ in size"):
        unpack(tile, 2)


def test_the_most_telling_tiles_have_the_most_even_phases() -> None:
    labels = [np.repeat([0, 1], [16 - ones, ones]).astype(np.uint8).reshape(4, 4) for ones in (0, 8, 1, 6)]
    assert most_telling(labels, 2, 3) == [1, 3, 2]
