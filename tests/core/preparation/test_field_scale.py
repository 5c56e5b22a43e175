"""Whose statement of the pixel size counts, and fields whose pixels are not square."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from microseg.core.errors import FieldError
from microseg.core.images.pixel_size import PixelSize
from microseg.core.preparation.prepared_field import PreparedField, labels_to_grid, labels_to_native, open_prepared
from microseg.core.schemas.preparation import Grid, Preparation
from tests.core.samples import noise


def opened(path: Path, grid: Grid | None = None, argument_um: float | None = None, **preparation: Any) -> PreparedField:
    with open_prepared(path, Preparation(**preparation), grid or Grid(), argument_um) as field:
        return field


def imagej(path: Path, across_um: float = 0.1, down_um: float = 0.1) -> Path:
    resolution = (1 / across_um, 1 / down_um)
    tifffile.imwrite(path, noise(40, 60), imagej=True, resolution=resolution, metadata={"unit": "um"})
    return path


def stale(path: Path) -> Path:
    text = "[Scan]\r\nPixelWidth=1e-007\r\n[Image]\r\nResolutionX=120\r\n"
    tifffile.imwrite(path, noise(40, 60), metadata=None, extratags=[(34682, 2, 0, text, True)])
    return path


def test_what_the_user_states_counts_and_the_file_is_told(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif")
    assert opened(path).pixel_size == PixelSize.square(0.1, "ImageJ (pixels per µm)")
    assert opened(path).notices == ()
    assert opened(path, pixel_size_um=0.1005).notices == ()
    field = opened(path, pixel_size_um=0.2)
    assert field.pixel_size == PixelSize.square(0.2, "domain.yaml")
    (notice,) = field.notices
    assert notice == (
        "the domain.yaml states a pixel of 0.2 um, the file 0.1 um (ImageJ (pixels per µm)): the domain.yaml counts"
    )
    assert notice.kind == "pixel size"
    field = opened(path, None, 0.3, pixel_size_um=0.1)
    assert field.pixel_size == PixelSize.square(0.3, "command line")
    assert "the command line counts" in field.notices[0]


@pytest.mark.parametrize("grid", [Grid(), Grid(pixel_size_um=0.1)])
def test_a_contradiction_is_refused_until_the_user_states_the_size(tmp_path: Path, grid: Grid) -> None:
    path = stale(tmp_path / "a.tif")
    with pytest.raises(
        FieldError, match=r"a\.tif: its pixel size is contradictory: FEI tag 34682 \(Scan\.PixelWidth\) states 0\.1 um"
    ):
        opened(path, grid)
    field = opened(path, grid, 0.2)
    assert field.pixel_size == PixelSize.square(0.2, "command line")
    assert "120 columns, but the picture has 60 columns" in field.notices[0]


@pytest.mark.parametrize(
    ("grid", "shape"),
    [
        (Grid(), (72, 60)),
        (Grid(scale=0.5), (36, 30)),
        (Grid(pixel_size_um=0.1), (72, 60)),
        (Grid(pixel_size_um=0.2), (36, 30)),
    ],
)
def test_oblong_pixels_become_square(tmp_path: Path, grid: Grid, shape: tuple[int, int]) -> None:
    path = imagej(tmp_path / "a.tif", 0.1, 0.18)
    with open_prepared(path, Preparation(), grid) as field:
        assert field.shape == shape
        assert field.whole().shape == shape
        whole = field.whole()
        striped = np.concatenate([field.rows(row, row + 1) for row in range(shape[0])])
    np.testing.assert_array_equal(whole, striped)
    (notice,) = field.notices
    assert (
        notice
        == "its pixels are not square (0.1 x 0.18 um, ImageJ (pixels per µm)): the field is resampled to square ones"
    )
    labels = noise(40, 60) % 3
    assert labels_to_grid(labels, field.shape).shape == shape
    back = labels_to_native(labels_to_grid(labels, (72, 120)), (40, 60))
    np.testing.assert_array_equal(back, labels)


def test_rounding_makes_no_pixel_oblong(tmp_path: Path) -> None:
    field = opened(imagej(tmp_path / "a.tif", 0.1, 0.1005))
    assert (field.shape, field.notices) == ((40, 60), ())


def test_edges_too_far_apart_are_a_contradiction(tmp_path: Path) -> None:
    with pytest.raises(FieldError, match=r"states 0\.1 um along a row and 100 um along a column"):
        opened(imagej(tmp_path / "a.tif", 0.1, 100.0))


def test_what_is_no_scale_is_told_where_nothing_else_states_one(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(40, 60), imagej=True, resolution=(118.11, 118.11), metadata={"unit": "cm"})
    field = opened(path)
    assert field.pixel_size is None
    assert "300 dpi of a printer" in field.notices[0]
    assert opened(path, None, 0.1).notices == ()
