"""What an alpha channel hides is no part of the picture, whatever it holds, in every format."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microseg.core.images.array import array_micrograph
from microseg.core.images.micrograph import Micrograph, open_micrograph
from tests.core.samples import noise

GREY = noise(40, 50) // 2 + 60
OUTSIDE = np.zeros(GREY.shape, bool)
OUTSIDE[:7, 12:] = OUTSIDE[20:, :9] = True


def with_alpha(alpha: NDArray[Any], channels: int, hidden: int = 255) -> NDArray[Any]:
    """GREY with 2 or 4 channels, of the type of `alpha`; hidden pixels hold a colour."""
    factor = 257 if alpha.dtype == np.uint16 else 1
    grey = (GREY.astype(np.float64) * factor).astype(alpha.dtype)
    planes = [np.where(OUTSIDE, hidden if index == 0 else 0, grey) for index in range(channels - 1)]
    return np.stack([*planes, alpha], axis=2).astype(alpha.dtype)


def tiff(**options: Any) -> Callable[[Path, NDArray[Any]], None]:
    def save(path: Path, pixels: NDArray[Any]) -> None:
        photometric = "rgb" if 4 in pixels.shape[:1] + pixels.shape[2:] else "minisblack"
        tifffile.imwrite(path, pixels, photometric=photometric, metadata=None, **options)

    return save


def planar(path: Path, pixels: NDArray[Any]) -> None:
    tiff(extrasamples=["unassalpha"], planarconfig="separate")(path, np.moveaxis(pixels, -1, 0))


def png(path: Path, pixels: NDArray[Any]) -> None:
    if pixels.dtype == np.uint8:
        Image.fromarray(pixels).save(path)
    else:
        path.write_bytes(imagecodecs.png_encode(pixels))


CONTIG = {"planarconfig": "contig"}
SAVERS: dict[str, Callable[[Path, NDArray[Any]], None]] = {
    "a.png": png,
    "unassociated.tif": tiff(extrasamples=["unassalpha"], **CONTIG),
    "associated.tif": tiff(extrasamples=["assocalpha"], **CONTIG),
    "tiles.tif": tiff(extrasamples=["unassalpha"], tile=(16, 32), compression="zlib", **CONTIG),
    "planar.tif": planar,
}


def check(micrograph: Micrograph, outside: NDArray[np.bool_] = OUTSIDE, grey: NDArray[Any] = GREY) -> None:
    with micrograph:
        (found,) = micrograph.exclusions
        assert found.reason == "transparent"
        rows = micrograph.rows(5, 38, 2, 47)
        np.testing.assert_array_equal(found.rows(5, 38)[:, 2:47], outside[5:38, 2:47])
        np.testing.assert_array_equal(rows, np.where(outside, 0, grey)[5:38, 2:47])
        np.testing.assert_array_equal(found.rows(0, 40), outside)
        assert micrograph.notices == ("alpha channel dropped",)


@pytest.mark.parametrize("whole_bytes", [64 << 20, 0], ids=["held", "in stripes"])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("name", SAVERS)
def test_transparent_pixels_are_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, dtype: str, channels: int, whole_bytes: int
) -> None:
    monkeypatch.setattr("microseg.core.images.tiff._WHOLE_BYTES", whole_bytes)
    largest = np.iinfo(dtype).max
    alpha = np.where(OUTSIDE, 0, largest).astype(dtype)
    alpha[0, 12], alpha[20, 0] = largest - 1, largest // 2  # partly transparent
    SAVERS[name](tmp_path / name, with_alpha(alpha, channels))
    check(open_micrograph(tmp_path / name), grey=GREY.astype(dtype) * (257 if dtype == "uint16" else 1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_opacity_of_floats_ends_at_one(tmp_path: Path, dtype: str) -> None:
    pixels = with_alpha(np.where(OUTSIDE, 0.5, 1.0).astype(dtype), 2)
    pixels[OUTSIDE, 0] = np.nan  # hidden, so it does not matter
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="minisblack",
        extrasamples=["unassalpha"],
        metadata=None,
        planarconfig="contig",
    )
    check(open_micrograph(tmp_path / "a.tif"))
    check(array_micrograph(pixels, "a"))


@pytest.mark.parametrize("channels", [2, 4])
def test_alpha_of_arrays(channels: int) -> None:
    check(array_micrograph(with_alpha(np.where(OUTSIDE, 0, 255).astype(np.uint8), channels), "a"))


def test_transparent_entries_of_a_palette(tmp_path: Path) -> None:
    image = Image.fromarray(np.where(OUTSIDE, 3, GREY % 3).astype(np.uint8), mode="P")
    image.putpalette([10, 10, 10, 200, 200, 200, 90, 90, 90, 255, 0, 0])
    grey = np.array([10, 200, 90])[GREY % 3]
    for name, stated in (("bytes", b"\xff\xff\xff\x10"), ("index", 3)):
        image.save(tmp_path / f"{name}.png", transparency=stated)
        check(open_micrograph(tmp_path / f"{name}.png"), grey=grey)


@pytest.mark.parametrize(
    ("mode", "key"), [("L", 33), ("RGB", (33, 44, 55)), ("I;16", 3300)], ids=["grey", "colour", "16 bit"]
)
def test_a_png_that_names_one_value_as_transparent(tmp_path: Path, mode: str, key: int | tuple[int, int, int]) -> None:
    grey = GREY.astype(np.uint16) if mode == "I;16" else GREY
    pixels = np.dstack([grey] * 3) if mode == "RGB" else grey.copy()
    pixels[OUTSIDE] = key
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=key)
    check(open_micrograph(tmp_path / "a.png"), grey=grey)


@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("name", SAVERS)
def test_an_opaque_alpha_channel_excludes_nothing(tmp_path: Path, name: str, channels: int) -> None:
    pixels = np.stack([GREY] * (channels - 1) + [np.full_like(GREY, 255)], axis=2)
    SAVERS[name](tmp_path / name, pixels)
    for micrograph in (open_micrograph(tmp_path / name), array_micrograph(pixels, "a")):
        with micrograph:
            np.testing.assert_array_equal(micrograph.rows(0, 40), GREY)
            assert micrograph.exclusions == () and micrograph.notices == ("alpha channel dropped",)


def bmp(path: Path, rgba: NDArray[np.uint8]) -> None:
    """A BMP with a BITMAPV4HEADER, whose masks name the fourth byte alpha."""
    height, width = rgba.shape[:2]
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, width, height, 1, 32, 3, 0, 0, 0, 0, 0) + masks + bytes(52)
    body = rgba[::-1, :, [2, 1, 0, 3]].tobytes()
    path.write_bytes(b"BM" + struct.pack("<IHHI", 122 + len(body), 0, 0, 122) + header + body)


def test_the_fourth_byte_of_a_bmp_is_alpha_unless_it_is_unused(tmp_path: Path) -> None:
    bmp(tmp_path / "used.bmp", with_alpha(np.where(OUTSIDE, 0, 255).astype(np.uint8), 4))
    check(open_micrograph(tmp_path / "used.bmp"))
    bmp(tmp_path / "unused.bmp", np.dstack([GREY] * 3 + [np.zeros_like(GREY)]))
    with open_micrograph(tmp_path / "unused.bmp") as micrograph:
        np.testing.assert_array_equal(micrograph.rows(0, 40), GREY)
        assert micrograph.exclusions == ()
        assert micrograph.notices == ("alpha channel dropped: it is 0 everywhere",)
