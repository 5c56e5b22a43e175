"""Grey that is stored as colour, and marks of colour on a grey picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import FieldError
from microseg.core.images.micrograph import open_micrograph
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.preparation import Crop, Grid, Preparation
from tests.core.samples import noise


def _marked() -> NDArray[np.uint8]:
    """80 x 100 px of grey with a red mark of 4 x 5 px at row 10, column 20."""
    colour = np.dstack([noise(80, 100)] * 3)
    colour[10:14, 20:25] = (250, 10, 10)
    return colour


def _save(path: Path, colour: NDArray[np.uint8]) -> Path:
    Image.fromarray(colour).save(path)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_small_differences_of_channels_are_grey(tmp_path: Path, dtype: str) -> None:
    step = 3 if dtype == "uint8" else 3 * 257
    grey = noise(40, 50, dtype) // 2
    tifffile.imwrite(tmp_path / "a.tif", np.dstack([grey + step, grey, grey]).astype(dtype), photometric="rgb")
    with open_micrograph(tmp_path / "a.tif") as micrograph:
        assert np.array_equal(micrograph.rows(0, 40), grey)
    tifffile.imwrite(tmp_path / "b.tif", np.dstack([grey + 2 * step, grey, grey]).astype(dtype), photometric="rgb")
    with open_micrograph(tmp_path / "b.tif") as micrograph, pytest.raises(FieldError, match=r"2000 of 2000 px"):
        micrograph.rows(0, 40)


@pytest.mark.parametrize("codec", ["jpeg2000", "jpegxl", "jpegxr", "jpeg"])
def test_grey_stored_as_colour_by_a_lossy_codec_is_grey(tmp_path: Path, codec: str) -> None:
    level: dict[str, float] = {"jpeg2000": 35, "jpegxl": 70, "jpegxr": 0.7, "jpeg": 60}
    grey = np.clip(noise(128, 128) // 4 + np.linspace(0, 150, 128, dtype=np.uint8), 0, 255).astype(np.uint8)
    tifffile.imwrite(
        tmp_path / "a.tif", np.dstack([grey] * 3), photometric="rgb", compression=codec,
        compressionargs={"level": level[codec]}, tile=(64, 64),
    )  # fmt: skip
    with open_micrograph(tmp_path / "a.tif") as micrograph:
        assert np.abs(micrograph.rows(0, 128).astype(int) - grey).mean() < 12


@pytest.mark.parametrize("name", ["a.png", "a.tif", "palette.png"])
def test_a_refusal_says_how_many_pixels_and_where(tmp_path: Path, name: str) -> None:
    colour = _marked()
    if name == "palette.png":
        Image.fromarray(colour).quantize(200).save(tmp_path / name)
    else:
        _save(tmp_path / name, colour)
    where = r"20 of 8000 px \(0\.25%\) are coloured, in rows 10 to 13 and columns 20 to 24\. Remedy: .*--allow-coloured 0\.3"
    with pytest.raises(FieldError, match=where):
        open_prepared(tmp_path / name, Preparation(), Grid()).whole()


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_coloured_pixels_are_left_out_where_they_are_allowed(tmp_path: Path, name: str) -> None:
    colour = _marked()
    path = _save(tmp_path / name, colour)
    with open_prepared(path, Preparation(allow_coloured_percent=0.3), Grid()) as field:
        (outside,) = field.excluded_rows(0, 80)
        expected = np.zeros((80, 100), bool)
        expected[10:14, 20:25] = True
        assert np.array_equal(outside, expected)
        assert [each.reason for each in field.exclusions] == ["coloured"]
        assert any("they are not measured" in notice for notice in field.notices)
        assert np.array_equal(field.whole()[~expected], colour[..., 0][~expected])
    with pytest.raises(FieldError, match="are coloured"):
        open_prepared(path, Preparation(allow_coloured_percent=0.2), Grid())
    with open_prepared(path, Preparation(allow_coloured_percent=0.2, crop=Crop(top_px=14)), Grid()) as field:
        assert not field.exclusions  # the crop leaves nothing coloured


def test_a_colour_image_has_no_option_that_takes_it(tmp_path: Path) -> None:
    colour = np.dstack([noise(40, 40, seed=seed) for seed in range(3)])
    with pytest.raises(FieldError) as refused:
        open_prepared(_save(tmp_path / "a.png", colour), Preparation(), Grid())
    assert "--allow-coloured" not in str(refused.value)
