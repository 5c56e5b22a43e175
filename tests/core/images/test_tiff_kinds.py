"""TIFF that other programs read: wrong lengths, packed bits, colour maps of 8 bits, JPEG of all kinds, many tiles."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.labels import read_mask
from microseg.core.errors import FieldError, InputError
from microseg.core.images.image_file import open_raster
from microseg.core.images.micrograph import open_micrograph
from tests.core.samples import noise

_OFFSETS, _COUNTS = (324, 273), (325, 279)
_JPEG: dict[str, Any] = {"compression": "jpeg", "compressionargs": {"level": 92}}


def _written(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    tifffile.imwrite(path, pixels, **deepcopy({"metadata": None} | options))  # tifffile adds to the options of a codec
    return path


def _overwrite(path: Path, codes: Sequence[int], change: Callable[[int, int], int]) -> None:
    """Change the values of a tag by their place and value."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        tags = tif.pages.first.tags
        (tag,) = [tags[code] for code in codes if code in tags]
        tag.overwrite([change(index, value) for index, value in enumerate(tag.value)], dtype=4)  # LONG


def _rename_tag(path: Path, code: int, other: int) -> None:
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        place = tif.pages.first.tags[code].offset
    data[place : place + 2] = other.to_bytes(2, "little")
    path.write_bytes(data)


def _set_tag(path: Path, code: int, value: Any, **options: Any) -> None:
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[code].overwrite(value, **options)


def _segments(path: Path) -> list[tuple[int, int]]:
    """Offset and length of each strip or tile."""
    with tifffile.TiffFile(path) as tif:
        page: Any = tif.pages.first
        return list(zip(page.dataoffsets, page.databytecounts, strict=True))


def _rows(path: Path) -> NDArray[Any]:
    with open_micrograph(path) as micrograph:
        return micrograph.rows(0, micrograph.height)


def _smooth(height: int = 100, width: int = 130) -> NDArray[np.uint8]:
    grey = cv2.GaussianBlur(noise(height, width), (0, 0), 4)
    return np.asarray(cv2.normalize(grey, None, 0, 255, cv2.NORM_MINMAX), np.uint8)  # type: ignore[call-overload]


_KINDS: dict[str, dict[str, Any]] = {
    "one strip": {},
    "strips": {"rowsperstrip": 32},
    "tiles": {"tile": (32, 48)},
    "lzw": {"rowsperstrip": 32, "compression": "lzw"},
    "zlib": {"tile": (32, 48), "compression": "zlib", "predictor": True},
    "packbits": {"rowsperstrip": 32, "compression": "packbits"},
    "jpeg2000": {"tile": (32, 48), "compression": "jpeg2000"},
    "planar": {"rowsperstrip": 32, "planarconfig": "separate", "photometric": "rgb"},
}


@pytest.mark.parametrize("whole_bytes", [64 << 20, 0], ids=["held", "in stripes"])
@pytest.mark.parametrize("stated", ["0", "1", "4294967295", "beyond the end", "not stated"])
@pytest.mark.parametrize("kind", _KINDS)
def test_wrong_lengths_of_data_that_are_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, stated: str, whole_bytes: int
) -> None:
    monkeypatch.setattr("microseg.core.images.tiff._WHOLE_BYTES", whole_bytes)
    grey = _smooth()
    pixels = np.stack([grey] * 3) if kind == "planar" else grey
    path = _written(tmp_path / "a.tif", pixels, **_KINDS[kind])
    if stated == "not stated":
        _rename_tag(path, 325 if "tile" in _KINDS[kind] else 279, 65000)
    else:
        _overwrite(path, _COUNTS, lambda _, value: value + 50_000 if stated == "beyond the end" else int(stated))
    np.testing.assert_array_equal(_rows(path), grey)


def test_wrong_lengths_of_jpeg_data(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.tif", _smooth(), tile=(32, 48), **_JPEG)
    right = _rows(path)
    lengths = [count for _, count in _segments(path)]
    for change in (lambda *_: 0, lambda index, _: lengths[index] // 2, lambda *_: 1 << 31):
        _overwrite(path, _COUNTS, change)
        np.testing.assert_array_equal(_rows(path), right)


def test_one_wrong_length_among_right_ones(tmp_path: Path) -> None:
    grey = noise(100, 130)
    for number, options in enumerate(({}, {"compression": "zlib"})):
        path = _written(tmp_path / f"{number}.tif", grey, rowsperstrip=16, **options)
        _overwrite(path, _COUNTS, lambda index, value: 0 if index == 2 else value)
        np.testing.assert_array_equal(_rows(path), grey)


def test_an_empty_tile_at_the_place_of_another_was_never_written(tmp_path: Path) -> None:
    grey = noise(64, 96)
    path = _written(tmp_path / "a.tif", grey, tile=(32, 48))
    _overwrite(path, _COUNTS, lambda index, value: 0 if index == 1 else value)
    first = _segments(path)[0][0]
    _overwrite(path, _OFFSETS, lambda index, value: first if index == 1 else value)
    with open_micrograph(path) as micrograph:
        (found,) = micrograph.exclusions
        assert found.rows(0, 64)[:32, 48:].all() and np.count_nonzero(found.rows(0, 64)) == 32 * 48


def test_tiles_cut_at_the_edge_of_the_picture(tmp_path: Path) -> None:
    grey = noise(40, 48)
    path = _written(tmp_path / "a.tif", grey, tile=(32, 48))
    # The data of the second row of tiles have 8 rows; what follows in the file is no part of it.
    path.write_bytes(path.read_bytes() + bytes(10_000))
    _overwrite(path, _COUNTS, lambda index, value: 8 * 48 if index else value)
    np.testing.assert_array_equal(_rows(path), grey)


@pytest.mark.parametrize(
    ("options", "what"),
    [({}, "pixels"), ({"tile": (32, 32)}, "tiles"), ({"rowsperstrip": 16, "compression": "zlib"}, "strips")],
    ids=str,
)
def test_data_that_are_missing_are_told_in_bytes(tmp_path: Path, options: dict[str, Any], what: str) -> None:
    path = _written(tmp_path / "a.tif", noise(120, 130), **options)
    content, end = path.read_bytes(), sum(max(_segments(path)))
    path.write_bytes(content[: end - 30])
    with pytest.raises(
        FieldError, match=rf"its {what} reach to byte \d+, and the file has {end - 30} bytes\. Remedy"
    ) as told:
        open_micrograph(path)
    assert "truncated" not in str(told.value) and "damaged" not in str(told.value)


def test_strips_too_close_to_each_other(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.tif", noise(64, 100), rowsperstrip=32)
    first = _segments(path)[0][0]
    _overwrite(path, _COUNTS, lambda *_: 0)
    _overwrite(path, _OFFSETS, lambda index, _: first + 100 * index)
    with pytest.raises(FieldError, match=r"of its strips, number 1 has 100 bytes and needs 3200\. Remedy"):
        open_micrograph(path)


def test_fewer_strips_than_the_picture_has(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.tif", noise(64, 100), rowsperstrip=16, compression="lzw")
    _set_tag(path, 278, 8)
    with pytest.raises(FieldError, match=r"states where 4 strips are, and 100 x 64 px are 8\. Remedy"):
        open_micrograph(path)


def test_jpeg_data_that_end_early_are_no_picture(tmp_path: Path) -> None:
    path = _written(tmp_path / "a.tif", _smooth(), **_JPEG)
    ((offset, count),) = _segments(path)
    data = bytearray(path.read_bytes())
    data[offset + count // 2 : offset + count] = bytes(count - count // 2)
    path.write_bytes(data)
    with pytest.raises(FieldError, match=rf"{count} bytes of JPEG data without an end marker"):
        open_micrograph(path)


@pytest.mark.parametrize("bits", [2, 3, 4, 6])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_few_bits_are_shown_over_the_whole_range(tmp_path: Path, bits: int, photometric: str) -> None:
    values = noise(50, 61) >> (8 - bits)
    path = _written(tmp_path / "a.tif", values, bitspersample=bits, photometric=photometric, rowsperstrip=8)
    shown = np.rint(values * (255 / (2**bits - 1))).astype(np.uint8)
    np.testing.assert_array_equal(_rows(path), shown if photometric == "minisblack" else 255 - shown)
    labels = read_mask(path).pixels
    np.testing.assert_array_equal(labels, values if photometric == "minisblack" else 2**bits - 1 - values)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("options", [{"rowsperstrip": 16}, {"tile": (32, 48)}], ids=str)
def test_packed_bits_keep_their_values(tmp_path: Path, bits: int, options: dict[str, Any]) -> None:
    values = noise(100, 131, "uint16") >> (16 - bits)
    path = _written(tmp_path / "a.tif", values, bitspersample=bits, photometric="minisblack", **options)
    rows = _rows(path)
    assert rows.dtype == np.uint16
    np.testing.assert_array_equal(rows, values)
    _overwrite(path, _COUNTS, lambda *_: 0)
    np.testing.assert_array_equal(_rows(path), values)
    _set_tag(path, 262, 0)  # WhiteIsZero
    np.testing.assert_array_equal(read_mask(path).pixels, 2**bits - 1 - values)


def test_one_hot_pages_of_few_bits_with_white_as_zero(tmp_path: Path) -> None:
    values = noise(40, 50) % 3
    pages = np.stack([np.where(values == place, 0, 15) for place in range(3)]).astype(np.uint8)
    path = _written(tmp_path / "a.tif", pages, bitspersample=4, photometric="miniswhite")
    mask = read_mask(path)
    assert mask.one_hot == 3
    np.testing.assert_array_equal(mask.pixels, values)


def test_alpha_of_12_bits(tmp_path: Path) -> None:
    grey, alpha = noise(40, 50, "uint16") >> 4, np.full((40, 50), 4095, np.uint16)
    alpha[:10] = 0
    options: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "extrasamples": ["unassalpha"]}
    path = _written(tmp_path / "a.tif", np.dstack([grey, alpha]), bitspersample=12, **options)
    with open_micrograph(path) as micrograph:
        (found,) = micrograph.exclusions
        np.testing.assert_array_equal(found.rows(0, 40), alpha == 0)


def test_colours_of_few_bits(tmp_path: Path) -> None:
    values = noise(40, 50) >> 4
    path = _written(tmp_path / "a.tif", np.dstack([values] * 3), bitspersample=4, photometric="rgb")
    np.testing.assert_array_equal(_rows(path), values * 17)
    assert read_mask(path).pixels.max() == 255


@pytest.mark.parametrize("top", [255, 65535])
@pytest.mark.parametrize("bits", [4, 8])
def test_colour_maps_of_8_and_16_bits(tmp_path: Path, bits: int, top: int) -> None:
    values = noise(40, 50) >> (8 - bits)
    level = np.linspace(top, 0, 2**bits).astype(np.uint16)
    options: dict[str, Any] = {"photometric": "palette", "colormap": np.stack([level] * 3)}
    if bits == 4:  # tifffile writes no packed palette
        packed = (values[:, ::2] << 4 | values[:, 1::2]).astype(np.uint8)
        path = _written(
            tmp_path / "a.tif", packed, extratags=[(320, 3, 48, options["colormap"].ravel().tolist(), True)]
        )
        for code, value in ((256, 50), (258, 4), (262, 3)):
            _set_tag(path, code, value)
    else:
        path = _written(tmp_path / "a.tif", values, **options)
    np.testing.assert_array_equal(_rows(path), (level if top == 255 else level >> 8)[values])
    mask = read_mask(path)
    np.testing.assert_array_equal(mask.pixels, values)
    assert mask.palette is not None and mask.palette.shape == (2**bits, 3) and mask.palette.max() == 255


def test_a_colour_map_of_one_bit(tmp_path: Path) -> None:
    values = noise(40, 50) > 128
    colours = [65535, 0, 0, 65535, 0, 0]  # red, green and blue of 0 and of 1
    path = _written(tmp_path / "a.tif", values, extratags=[(320, 3, 6, colours, True)], photometric="minisblack")
    _set_tag(path, 262, 3)
    mask = read_mask(path)
    assert mask.palette is not None and not mask.one_bit
    np.testing.assert_array_equal(mask.palette[mask.pixels], np.where(values[..., None], [0, 255, 0], [255, 0, 0]))


@pytest.mark.parametrize("layout", [{"tile": (32, 48)}, {"rowsperstrip": 32}], ids=["tiles", "strips"])
@pytest.mark.parametrize(
    "kind",
    [
        {},
        {"photometric": "rgb"},
        {"photometric": "rgb", "subsampling": (2, 2)},
        {"photometric": "rgb", "planarconfig": "separate"},
        {"compressionargs": {"level": 95, "bitspersample": 12}},
    ],
    ids=["grey", "rgb", "subsampled", "planar", "12 bits"],
)
def test_jpeg(tmp_path: Path, kind: dict[str, Any], layout: dict[str, Any]) -> None:
    grey = _smooth()
    is_wide = "compressionargs" in kind
    pixels = grey.astype(np.uint16) << 4 if is_wide else grey
    if "photometric" in kind:
        pixels = np.stack([grey] * 3) if "planarconfig" in kind else np.dstack([grey] * 3)
    path = _written(tmp_path / "a.tif", pixels, **_JPEG | kind | layout)
    rows = _rows(path)
    assert rows.dtype == pixels.dtype
    assert np.abs((rows >> 4 if is_wide else rows).astype(int) - grey).mean() < 2
    with pytest.raises(InputError, match="is compressed with loss"):
        read_mask(path)


def test_old_style_jpeg(tmp_path: Path) -> None:
    grey = _smooth(64, 96)
    with io.BytesIO() as stream:
        Image.fromarray(grey).convert("RGB").save(stream, "JPEG", quality=95)
        jpeg = stream.getvalue()
    # A header with strips of entropy-coded data, as Wang Imaging wrote, before the stream that holds all.
    path = _written(tmp_path / "a.tif", np.zeros((64, 96, 3), np.uint8), photometric="rgb", rowsperstrip=16)
    place = path.stat().st_size
    path.write_bytes(path.read_bytes() + jpeg)
    for code in (259, 262):  # Compression, PhotometricInterpretation
        _set_tag(path, code, 6)
    _rename_tag(path, 305, 513)  # the tag of the program's name becomes JPEGInterchangeFormat
    _set_tag(path, 513, place, dtype=4)
    assert np.abs(_rows(path).astype(int) - grey).mean() < 2


@pytest.mark.parametrize("options", [{"tile": (32, 48)}, {"compression": "lzw", "rowsperstrip": 16}], ids=str)
def test_luma_and_chroma_without_jpeg(tmp_path: Path, options: dict[str, Any]) -> None:
    grey = noise(64, 96)
    pixels = np.dstack([grey, np.full_like(grey, 128), np.full_like(grey, 128)])
    path = _written(tmp_path / "a.tif", pixels, photometric="rgb", extratags=[(530, 3, 2, (1, 1), True)], **options)
    _set_tag(path, 262, 6)
    np.testing.assert_array_equal(_rows(path), grey)


def test_a_stripe_decodes_the_rows_of_tiles_that_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microseg.core.images.tiff._WHOLE_BYTES", 0)
    decoded: list[int] = []
    original: Any = tifffile.TiffPage.decode

    def counting(page: tifffile.TiffPage) -> Callable[..., Any]:
        def decode(data: bytes, index: int, **options: Any) -> Any:
            decoded.append(index)
            return original.func(page)(data, index, **options)

        return decode

    monkeypatch.setattr(tifffile.TiffPage, "decode", property(counting))
    grey = noise(640, 320)
    path = _written(tmp_path / "a.tif", grey, tile=(64, 64), compression="zlib")
    with open_raster(path) as raster:
        assert not decoded
        np.testing.assert_array_equal(raster.read(70, 120), grey[70:120])
        assert decoded == [5, 6, 7, 8, 9]
        np.testing.assert_array_equal(raster.read(100, 130), grey[100:130])  # the row of tiles 64 to 127 is kept
        assert decoded == list(range(5, 15))


def test_a_row_of_tiles_that_no_station_holds_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microseg.core.images.tiff._MAX_SEGMENT_BYTES", 32 * 200 - 1)
    path = _written(tmp_path / "a.tif", noise(100, 200), tile=(32, 32), compression="zlib")
    with pytest.raises(FieldError, match=r"one row of tiles of more than 1 GiB.*Remedy"):
        open_micrograph(path)
