"""Stitching: the cores of a plan's tiles give the field back, whole or band by band."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from microseg.core.preparation.stitching import BandStitcher, predict_tiled
from microseg.core.preparation.tiling import extract, plan_tiles

_PLANS = {
    "height": st.integers(1, 150),
    "width": st.integers(1, 150),
    "stride": st.sampled_from([1, 8, 16]),
    "halo_px": st.sampled_from([0, 5, 16]),
    "max_pixels": st.sampled_from([4096, 9000, 1 << 20]),
}


def _field(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width)).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(**_PLANS)
def test_a_tiled_identity_gives_the_field_back(
    height: int, width: int, stride: int, halo_px: int, max_pixels: int
) -> None:
    field = _field(height, width)
    plan = plan_tiles(height, width, stride, halo_px, max_pixels)
    same, pair = predict_tiled(
        field, plan, lambda pixels: (pixels, np.stack([pixels, 255 - pixels]).astype(np.float32))
    )
    assert np.array_equal(same, field) and same.dtype == np.uint8
    assert np.array_equal(pair, np.stack([field, 255 - field])) and pair.dtype == np.float32


@settings(max_examples=60, deadline=None)
@given(**_PLANS)
def test_bands_partition_the_rows_in_order(height: int, width: int, stride: int, halo_px: int, max_pixels: int) -> None:
    field = _field(height, width)
    stitcher = BandStitcher(width)
    next_row = 0
    for tile in plan_tiles(height, width, stride, halo_px, max_pixels):
        pixels = extract(lambda start, stop: field[start:stop], tile, height, width)
        band = stitcher.add(tile, pixels, np.stack([pixels, 255 - pixels]))
        is_last_of_its_row = tile.core_left + tile.core_width == width
        assert (band is not None) == is_last_of_its_row
        if band is not None:
            assert band.top == next_row
            rows = field[band.top : band.top + tile.core_height]
            assert np.array_equal(band.values[0], rows)
            assert np.array_equal(band.values[1], np.stack([rows, 255 - rows]))
            next_row += tile.core_height
    assert next_row == height


def test_a_prediction_without_arrays_visits_every_tile() -> None:
    seen: list[np.ndarray] = []
    plan = plan_tiles(100, 100, 8, 8, 4096)

    def count(pixels: np.ndarray) -> list[np.ndarray]:
        seen.append(pixels)
        return []

    assert predict_tiled(_field(100, 100), plan, count) == ()
    assert len(seen) == len(plan)
