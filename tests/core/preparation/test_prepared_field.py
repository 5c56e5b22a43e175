"""One preparation, the same bits whether a field is read whole or in stripes."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.pixel_size import ASSUMED, PixelSize
from microseg.core.preparation import prepared_field
from microseg.core.preparation.bit_depth import resolve_bits
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.intensity import combined_rule
from microseg.core.preparation.percentiles import percentiles
from microseg.core.preparation.prepared_field import (
    labels_to_grid,
    labels_to_native,
    open_prepared,
    read_through,
    read_whole,
)
from microseg.core.preparation.resampling import network_side, resample_rows, resampling_weights, source_rows
from microseg.core.schemas.preparation import Crop, Grid, Intensity, Preparation
from tests.core.samples import noise

FULL = Intensity(rule="full")
BY_MAXIMUM = Intensity(rule="significant_bits")
PERCENTILES = Intensity(rule="percentiles", low=2, high=90)


def write(path: Path, grey: NDArray[Any], **options: Any) -> Path:
    tifffile.imwrite(path, grey, **options)
    return path


def prepared(path: Path, grid: Grid | None = None, argument_um: float | None = None, **preparation: Any) -> Any:
    with open_prepared(
        path, Preparation(**preparation), grid or Grid(), ScaleRules(command_line_um=argument_um)
    ) as field:
        return field, field.whole()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    height=st.integers(16, 90),
    width=st.integers(16, 90),
    dtype=st.sampled_from(["uint8", "uint16", "float32"]),
    rule=st.sampled_from([FULL, PERCENTILES, BY_MAXIMUM, Intensity()]),
    scale=st.sampled_from([1.0, 0.5, 0.37, 0.9, 1.31, 2.0]),
    crop=st.sampled_from([Crop(), Crop(top_px=1, bottom_px=3, left_px=2, right_px=5)]),
    tiled=st.booleans(),
    invert=st.booleans(),
    cuts=st.lists(st.integers(0, 200), max_size=5),
)
def test_stripes_equal_the_whole(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    height: int,
    width: int,
    dtype: str,
    rule: Intensity,
    scale: float,
    crop: Crop,
    tiled: bool,
    invert: bool,
    cuts: list[int],
) -> None:
    height, width = height + 8, width + 8  # what the crop takes
    path = write(tmp_path / "a.tif", noise(height, width, dtype), tile=(16, 32) if tiled else None)
    preparation = Preparation(intensity=rule, crop=crop, invert=invert)
    with open_prepared(path, preparation, Grid(scale=scale)) as field:
        whole = field.whole()
        assert whole.shape == field.shape
        assert whole.dtype == np.uint8
    with monkeypatch.context() as patch:
        patch.setattr("microseg.core.images.tiff._WHOLE_BYTES", 0)
        patch.setattr("microseg.core.preparation.prepared_field._STRIPE_BYTES", 500)
        opened = open_prepared(path, preparation, Grid(scale=scale))
    with opened as field:
        edges = sorted({0, field.shape[0], *(cut % (field.shape[0] + 1) for cut in cuts)})
        striped = [field.rows(start, stop) for start, stop in itertools.pairwise(edges)]
        native = [field.native_rows(row, row + 1) for row in range(field.native_shape[0])]
        assert np.concatenate(native).shape == field.native_shape
    np.testing.assert_array_equal(np.concatenate(striped), whole)


@pytest.mark.parametrize("shape", [(100, 120), (101, 119), (143, 205)])
def test_halving_is_area_averaging(tmp_path: Path, shape: tuple[int, int]) -> None:
    grey = noise(*shape)
    field, rows = prepared(write(tmp_path / "a.tif", grey), Grid(scale=0.5))
    assert field.shape == ((shape[0] + 1) // 2, (shape[1] + 1) // 2)
    expected = cv2.resize(grey, field.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(rows.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("scale", [0.37, 0.77])
def test_shrinking_is_area_averaging(tmp_path: Path, scale: float) -> None:
    grey = noise(111, 130)
    field, rows = prepared(write(tmp_path / "a.tif", grey), Grid(scale=scale))
    assert np.abs(rows.astype(int) - cv2.resize(grey, field.shape[::-1], interpolation=cv2.INTER_AREA)).max() <= 1


def test_growing_is_linear_between_pixel_centres(tmp_path: Path) -> None:
    grey = noise(40, 50)
    field, rows = prepared(write(tmp_path / "a.tif", grey), Grid(scale=1.7))
    assert np.abs(rows.astype(int) - cv2.resize(grey, field.shape[::-1], interpolation=cv2.INTER_LINEAR)).max() <= 1


@given(source=st.integers(1, 300), target=st.integers(1, 300))
def test_weights_keep_the_mean_grey(source: int, target: int) -> None:
    weights = resampling_weights(source, target)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-5)
    if target <= source:
        np.testing.assert_allclose(weights.sum(axis=0), target / source, rtol=2e-4)


def test_native_pixels_are_not_touched_when_nothing_is_to_do(tmp_path: Path) -> None:
    grey = noise(40, 50)
    path = write(tmp_path / "a.tif", grey)
    for grid, size in ((Grid(), None), (Grid(pixel_size_um=0.0277), 0.0277), (Grid(pixel_size_um=0.0277), 0.02770001)):
        field, rows = prepared(path, grid, size)
        assert field.shape == field.native_shape == field.full_shape == (40, 50)
        np.testing.assert_array_equal(rows, grey)


def test_crop_then_invert_and_native_rows_as_a_person_knows_them(tmp_path: Path) -> None:
    grey = noise(60, 50)
    path = write(tmp_path / "a.tif", grey)
    with open_prepared(path, Preparation(invert=True, crop=Crop(bottom_px=9, left_px=4)), Grid()) as field:
        assert field.full_shape == (60, 50)
        assert field.native_shape == (51, 46)
        np.testing.assert_array_equal(field.native_rows(3, 20), grey[3:20, 4:])
        np.testing.assert_array_equal(field.rows(3, 20), 255 - grey[3:20, 4:])


def test_pixel_size_argument_wins_over_preparation_over_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(40, 40), imagej=True, resolution=(10, 10), metadata={"unit": "um"})
    grid = Grid(pixel_size_um=0.2)
    assert prepared(path, grid)[0].shape == (20, 20)
    field, _ = prepared(path, grid, pixel_size_um=0.3)
    assert (field.shape, field.pixel_size_um) == ((60, 60), 0.3)
    field, _ = prepared(path, grid, 0.4, pixel_size_um=0.3)
    assert (field.shape, field.pixel_size_um) == ((80, 80), 0.4)


def test_a_grid_without_pixel_size_ignores_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(40, 40), imagej=True, resolution=(10, 10), metadata={"unit": "um"})
    assert prepared(path, Grid(scale=0.5))[0].shape == (20, 20)


def test_pixel_size_unknown_or_beyond_reason_names_the_option(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(40, 40))
    with pytest.raises(FieldError, match=r"a\.tif: its pixel size is unknown.*--pixel-size-um"):
        prepared(path, Grid(pixel_size_um=0.0277))
    with pytest.raises(FieldError, match=r"27\.7 um \(command line\) is far from the engine's 0\.0277 um.*unit"):
        prepared(path, Grid(pixel_size_um=0.0277), 27.7)


def test_what_is_no_field(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match="too small"):
        prepared(write(tmp_path / "one.tif", noise(1, 1)))
    with pytest.raises(FieldError, match="every pixel is 0: there is nothing to measure"):
        prepared(write(tmp_path / "black.tif", np.zeros((40, 40), np.uint8)))
    path = write(tmp_path / "a.tif", noise(40, 40))
    with pytest.raises(FieldError, match=r"crop .* leaves nothing of 40 x 40 px"):
        prepared(path, crop=Crop(top_px=20, bottom_px=20))
    with pytest.raises(FieldError, match="too small"):
        prepared(path, crop=Crop(bottom_px=30))


def test_blank_but_for_the_data_bar(tmp_path: Path) -> None:
    grey = np.zeros((60, 60), np.uint8)
    grey[50:] = noise(10, 60)
    path = write(tmp_path / "a.tif", grey)
    prepared(path)
    with pytest.raises(FieldError, match="every pixel is 0"):
        prepared(path, crop=Crop(bottom_px=10))


def test_full_rule(tmp_path: Path) -> None:
    wide = noise(40, 40, "uint16")
    rows = prepared(write(tmp_path / "a.tif", wide), intensity=FULL)[1]
    np.testing.assert_array_equal(rows, np.rint(wide / 257))
    unit = noise(40, 40, "float32")
    rows = prepared(write(tmp_path / "b.tif", unit), intensity=FULL)[1]
    np.testing.assert_array_equal(rows, np.rint(unit * np.float32(255)))
    with pytest.raises(FieldError, match=r"beyond 0 to 1.*percentiles"):
        prepared(write(tmp_path / "c.tif", unit * 2), intensity=FULL)


def test_significant_bits(tmp_path: Path) -> None:
    narrow = noise(40, 40, "uint16") >> 4
    path = write(tmp_path / "a.tif", narrow)
    field, rows = prepared(path, intensity=BY_MAXIMUM)
    assert field.intensity.bits == 12
    assert "12 significant bits" in field.notices[0]
    np.testing.assert_array_equal(rows, np.rint(narrow * (255 / 4095)))
    field, rows = prepared(path, intensity=Intensity(rule="significant_bits", bits=14))
    assert field.notices == ()
    field, rows = prepared(path, intensity=Intensity(rule="significant_bits", bits=16))
    assert "the fractions may be wrong. Remedy: `intensity: {rule: bit_depth}`" in field.notices[0]
    np.testing.assert_array_equal(rows, np.rint(narrow / 257))
    field, rows = prepared(path, intensity=Intensity(rule="significant_bits", bits=10))
    assert "beyond the 10 bits" in field.notices[0]
    assert (rows == 255).mean() > 0.7


def test_8_bit_is_the_identity_whatever_the_bits(tmp_path: Path) -> None:
    grey = noise(40, 40)
    for bits in (None, 8, 12):
        field, rows = prepared(write(tmp_path / "a.tif", grey), intensity=Intensity(bits=bits))
        np.testing.assert_array_equal(rows, grey)
        assert field.notices == ()


@pytest.mark.parametrize(
    ("brightest", "bits"), [(0, 8), (255, 8), (256, 10), (1500, 12), (4095, 12), (4096, 14), (65535, 16)]
)
def test_bits_are_those_of_cameras(brightest: int, bits: int) -> None:
    assert resolve_bits(brightest) == bits


def test_floats_of_earlier_runs_take_percentiles_and_say_so(tmp_path: Path) -> None:
    field, rows = prepared(write(tmp_path / "a.tif", noise(50, 50, "float32") * 1000 - 300), intensity=BY_MAXIMUM)
    assert field.intensity.rule == "percentiles"
    assert "percentiles 0.5 to 99.5" in field.notices[0]
    assert rows.min() == 0
    assert rows.max() == 255


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=60),
    low=st.floats(0, 50),
    high=st.floats(50.1, 100),
)
def test_percentiles_are_exact_nearest_rank(values: list[float], low: float, high: float) -> None:
    array = np.array(values, np.float32)
    found = percentiles(lambda: np.array_split(array[None], min(3, len(values)), axis=1), low, high)
    ranked = np.sort(array)
    expected = [ranked[max(1, int(np.ceil(p / 100 * len(ranked)))) - 1] for p in (low, high)]
    np.testing.assert_array_equal(found, expected)


def test_one_hot_pixel_does_not_spoil_percentiles(tmp_path: Path) -> None:
    grey = noise(60, 60, "float32")
    hot = grey.copy()
    hot[5, 5] = 1e30
    one = prepared(write(tmp_path / "a.tif", grey), intensity=PERCENTILES)[1]
    other = prepared(write(tmp_path / "b.tif", hot), intensity=PERCENTILES)[1]
    assert (np.abs(one.astype(int) - other) > 1).sum() <= 1


def test_the_rule_of_a_domain() -> None:
    stated = BY_MAXIMUM
    bits = [stated.model_copy(update={"bits": value}) for value in (10, 12)]
    floats = stated.model_copy(update={"rule": "percentiles"})
    assert combined_rule(stated, bits).bits == 12
    assert combined_rule(stated, [stated, stated]) == stated
    assert combined_rule(stated, [floats, floats]) == floats
    assert combined_rule(stated, [floats, bits[0]]).bits == 10
    assert combined_rule(FULL, [FULL]) == FULL


@given(native=st.tuples(st.integers(16, 80), st.integers(16, 80)), scale=st.sampled_from([0.3, 0.5, 1.0, 1.4, 2.0]))
def test_labels_go_to_native_in_stripes_as_in_one(native: tuple[int, int], scale: float) -> None:
    shape = tuple(network_side(side, scale) for side in native)
    labels = np.random.default_rng(0).integers(0, 5, shape, dtype=np.uint8)
    whole = labels_to_native(labels, native)
    assert whole.shape == native
    parts = [labels_to_native(labels, native, row, min(row + 7, native[0])) for row in range(0, native[0], 7)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert labels_to_native(labels, native, 5, 5).shape == (0, native[1])


def test_labels_survive_the_way_to_the_grid_and_back() -> None:
    blocks = np.random.default_rng(0).integers(0, 3, (30, 40), dtype=np.uint8).repeat(4, 0).repeat(4, 1)
    there = labels_to_grid(blocks, (60, 80))
    np.testing.assert_array_equal(labels_to_native(there, blocks.shape), blocks)


def test_a_step_edge_stays_where_it_is(tmp_path: Path) -> None:
    """Image and labels share one geometry: half a network pixel is the most that an edge may move."""
    grey = np.zeros((64, 201), np.uint8)
    grey[:, 101:] = 200
    field, rows = prepared(write(tmp_path / "a.tif", grey), Grid(scale=0.5))
    back = labels_to_native((rows > 100).astype(np.uint8), field.native_shape)
    assert np.abs(int(back[0].argmax()) - 101) <= 1


def test_a_mask_taken_for_an_image_is_noticed(tmp_path: Path) -> None:
    field, _ = prepared(write(tmp_path / "a.tif", noise(40, 40) % 3))
    assert field.notices == ("holds only 3 grey values, as masks and thresholded images do",)


def test_a_pixel_size_to_fall_back_on(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(40, 40))
    with open_prepared(
        path, Preparation(), Grid(pixel_size_um=0.2), ScaleRules(assumed=PixelSize.square(0.1, ASSUMED))
    ) as field:
        assert field.shape == (20, 20)


def test_why_opencv_does_not_resample() -> None:
    """Its stripes are grids of their own, where ours are parts of the whole."""
    image, shape = noise(300, 400), (111, 148)
    whole = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
    theirs, ours = [], []
    for start in range(0, shape[0], 10):
        stop = min(start + 10, shape[0])
        first, last = source_rows(300, shape[0], start, stop)
        theirs.append(cv2.resize(image[first:last], (shape[1], stop - start), interpolation=cv2.INTER_AREA))
        ours.append(resample_rows(image[first:last], first, (300, 400), shape, start, stop))
    assert np.mean(np.vstack(theirs) != whole) > 0.5
    assert np.array_equal(np.vstack(ours), resample_rows(image, 0, (300, 400), shape, 0, shape[0]))


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_reading_once_gives_picture_and_what_is_not_measured(
    tmp_path: Path, scale: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(60, 50)
    alpha = np.full_like(image, 255)
    alpha[10:20, 5:15] = 0
    cv2.imwrite(str(tmp_path / "a.png"), np.dstack([image, image, image, alpha]))
    monkeypatch.setattr(prepared_field, "_STRIPE_BYTES", 50 * 7)
    with open_prepared(tmp_path / "a.png", Preparation(invert=True), Grid(scale=scale)) as prepared:
        whole, counts = read_whole(prepared)
        assert np.array_equal(whole, prepared.whole())
        assert counts == read_through(prepared) and sum(counts.values()) == 100
