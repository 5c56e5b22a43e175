"""Orientation: what viewers turn, and the grid that a file stores."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from microseg.core.images.image_file import open_raster, stored_grid
from microseg.core.images.micrograph import open_micrograph
from microseg.core.images.orientation import as_stored, known_orientation, shown
from tests.core.samples import noise

PIXELS = noise(20, 30)


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    return found


def write(path: Path, orientation: int) -> Path:
    if path.suffix == ".tif":
        tifffile.imwrite(path, PIXELS, extratags=[(274, "H", 1, orientation, True)])
    else:
        Image.fromarray(PIXELS).save(path, exif=exif(orientation))
    return path


@pytest.mark.parametrize("orientation", range(1, 9))
def test_shown_is_what_viewers_show_and_as_stored_undoes_it(tmp_path: Path, orientation: int) -> None:
    path = write(tmp_path / "a.png", orientation)
    with Image.open(path) as image:
        viewed = np.asarray(ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(shown(PIXELS, orientation), viewed)
    np.testing.assert_array_equal(as_stored(viewed, orientation), PIXELS)
    assert stored_grid(path).shown_shape == viewed.shape
    colours = np.dstack([PIXELS] * 3)
    np.testing.assert_array_equal(as_stored(shown(colours, orientation), orientation), colours)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
def test_every_format_states_it_in_header_and_raster_and_keeps_its_grid(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a{suffix}", 6)
    with open_raster(path) as raster:
        assert (raster.height, raster.width, raster.orientation) == (20, 30, 6)
        assert raster.read(0, 20).shape == (20, 30)
    grid = stored_grid(path)
    assert (grid.shape, grid.shown_shape, grid.orientation) == ((20, 30), (30, 20), 6)
    with open_micrograph(path) as micrograph:
        assert (micrograph.height, micrograph.width, micrograph.orientation) == (20, 30, 6)
        assert [notice.kind for notice in micrograph.notices] == ["file"]
        assert "orientation 6" in micrograph.notices[0]


def test_exif_behind_the_pixels_of_a_png_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(PIXELS).save(path)
    body = exif(3).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body)) + b"eXIf" + body + struct.pack(">I", zlib.crc32(b"eXIf" + body))
    data = path.read_bytes()
    path.write_bytes(data[:-12] + chunk + data[-12:])
    assert stored_grid(path).orientation == 3
    with open_raster(path) as raster:
        assert raster.orientation == 3


@pytest.mark.parametrize("value", [0, 9, -1, None, "6", 3.0, b"\0"])
def test_what_is_no_orientation_turns_nothing(value: object) -> None:
    assert known_orientation(value) == 1


def test_damaged_exif_turns_nothing(tmp_path: Path) -> None:
    for name, data in (("a.png", b"II*\0\xff\xff\xff\x7f"), ("b.jpg", b"Exif\0\0MM\0*\0\0")):
        Image.fromarray(PIXELS).save(tmp_path / name, exif=data)
        assert stored_grid(tmp_path / name).orientation == 1
        with open_raster(tmp_path / name) as raster:
            assert raster.orientation == 1
