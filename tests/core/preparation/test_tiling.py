"""Tile plans: cores partition a field, halos are real, and tile then stitch is the identity."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.preparation.tiling import Tile, extract, mirror, plan_tiles

sides = st.integers(1, 160)
plans = {
    "height": sides,
    "width": sides,
    "stride": st.sampled_from([1, 4, 8, 32]),
    "halo_px": st.integers(0, 40),
    "max_pixels": st.integers(1_000, 30_000),
}


def ceil_to(value: int, multiple: int) -> int:
    return math.ceil(value / multiple) * multiple


def field(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)


def core_of(tile: Tile) -> tuple[slice, slice]:
    """The core in the field."""
    return (
        slice(tile.core_top, tile.core_top + tile.core_height),
        slice(tile.core_left, tile.core_left + tile.core_width),
    )


def core_in(tile: Tile) -> tuple[slice, slice]:
    """The core in its tile."""
    y, x = tile.core_top - tile.top, tile.core_left - tile.left
    return slice(y, y + tile.core_height), slice(x, x + tile.core_width)


@settings(deadline=None, max_examples=200)
@given(**plans)
def test_cores_partition_the_field(height: int, width: int, stride: int, halo_px: int, max_pixels: int) -> None:
    padded = {"y": ceil_to(height, stride), "x": ceil_to(width, stride)}
    smallest = stride + 2 * ceil_to(halo_px, stride)
    try:
        tiles = plan_tiles(height, width, stride, halo_px, max_pixels)
    except FieldError:
        assert min(padded["y"], smallest) * min(padded["x"], smallest) > max_pixels
        return
    times = np.zeros((height, width), int)
    for tile in tiles:
        times[core_of(tile)] += 1
        assert tile.height * tile.width <= max_pixels
        spans = {
            "y": (tile.top, tile.height, tile.core_top, tile.core_height),
            "x": (tile.left, tile.width, tile.core_left, tile.core_width),
        }
        for axis, (start, size, core, core_size) in spans.items():
            assert start % stride == 0
            assert size % stride == 0
            assert start >= 0 and start + size <= padded[axis]
            assert core - start >= halo_px or start == 0
            assert start + size - core - core_size >= halo_px or start + size == padded[axis]
    assert (times == 1).all()
    assert len({(tile.height, tile.width) for tile in tiles}) == 1


@settings(deadline=None, max_examples=150)
@given(**plans)
def test_tile_then_stitch_is_the_identity(height: int, width: int, stride: int, halo_px: int, max_pixels: int) -> None:
    image = field(height, width)
    try:
        tiles = plan_tiles(height, width, stride, halo_px, max_pixels)
    except FieldError:
        return
    stitched = np.zeros_like(image)
    mirrored = mirror(image, 0, -height % stride, 0, -width % stride)
    for tile in tiles:
        cut = extract(lambda start, stop: image[start:stop], tile, height, width)
        assert cut.shape == (tile.height, tile.width)
        assert np.array_equal(cut, mirrored[tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]), (
            "halos are real pixels, and beyond the field its mirror image"
        )
        stitched[core_of(tile)] = cut[core_in(tile)]
    assert np.array_equal(stitched, image)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (2, 3), (5, 1)])
def test_fields_smaller_than_the_stride_are_mirrored(height: int, width: int) -> None:
    image = field(height, width)
    (tile,) = plan_tiles(height, width, 8, 16, 1000)
    cut = extract(lambda start, stop: image[start:stop], tile, height, width)
    assert cut.shape == (8, 8)
    assert np.array_equal(cut[:height, :width], image)
    assert set(np.unique(cut)) <= set(np.unique(image))


@given(height=sides, width=sides, side=st.sampled_from([48, 64, 96]), max_pixels=st.integers(3_000, 30_000))
def test_no_side_is_longer_than_the_engine_runs(height: int, width: int, side: int, max_pixels: int) -> None:
    tiles = plan_tiles(height, width, 8, 16, max_pixels, side)
    assert max(max(tile.height, tile.width) for tile in tiles) <= side
    covered = np.zeros((height, width), int)
    for tile in tiles:
        covered[core_of(tile)] += 1
    assert (covered == 1).all()


def test_the_mirror_does_not_repeat_the_edge() -> None:
    image = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    assert mirror(image, 0, 1, 0, 2).tolist() == [[1, 2, 3, 2, 1], [4, 5, 6, 5, 4], [1, 2, 3, 2, 1]]


def test_a_field_that_fits_is_one_tile_mirrored_to_the_stride_alone() -> None:
    assert plan_tiles(717, 1024, 32, 62, 800_000) == [Tile(0, 0, 736, 1024, 0, 0, 717, 1024)]


def test_only_the_rows_of_a_tile_are_read() -> None:
    height, width = 4000, 300
    asked = []

    def rows(start: int, stop: int) -> NDArray[np.uint8]:
        asked.append(stop - start)
        return np.zeros((stop - start, width), np.uint8)

    for tile in plan_tiles(height, width, 32, 32, 100_000):
        extract(rows, tile, height, width)
    assert max(asked) <= 100_000 / 320 + 32


def test_little_is_computed_twice() -> None:
    tiles = plan_tiles(2048, 2048, 32, 64, 1 << 20)
    assert sum(tile.height * tile.width for tile in tiles) < 1.4 * 2048**2
