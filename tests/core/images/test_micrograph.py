"""Every format that a microscope or an image editor writes, and every way a file can be broken."""

from __future__ import annotations

import shutil
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from microseg.core.errors import FieldError, InputError
from microseg.core.images.micrograph import find_images, open_micrograph
from tests.core.samples import noise


def whole(path: Path) -> np.ndarray[Any, Any]:
    with open_micrograph(path) as micrograph:
        grey = micrograph.rows(0, micrograph.height)
        assert grey.shape == (micrograph.height, micrograph.width)
        assert grey.dtype == micrograph.dtype
        return grey


TIFF_OPTIONS: list[dict[str, Any]] = [
    {},
    {"rowsperstrip": 7},
    {"rowsperstrip": 7, "compression": "zlib", "predictor": True},
    {"compression": "lzw"},
    {"tile": (32, 48)},
    {"tile": (16, 64), "compression": "lzw", "predictor": True},
    {"compression": "packbits"},
    {"byteorder": ">"},
    {"byteorder": ">", "compression": "zlib", "rowsperstrip": 10},
    {"bigtiff": True},
]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("options", TIFF_OPTIONS, ids=str)
def test_tiff_layouts_read_as_written(tmp_path: Path, options: dict[str, Any], dtype: str) -> None:
    grey = noise(75, 101, dtype)
    tifffile.imwrite(tmp_path / "a.tif", grey, **options)
    np.testing.assert_array_equal(whole(tmp_path / "a.tif"), grey)


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("options", [{}, {"rowsperstrip": 9, "compression": "zlib"}, {"tile": (32, 32)}], ids=str)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_rgb_tiff_with_equal_channels_is_grey(tmp_path: Path, planar: str, options: dict[str, Any], dtype: str) -> None:
    grey = noise(50, 70, dtype)
    pixels = np.dstack([grey] * 3) if planar == "contig" else np.stack([grey] * 3)
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", planarconfig=planar, **options)
    np.testing.assert_array_equal(whole(tmp_path / "a.tif"), grey)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    start=st.integers(0, 99),
    length=st.integers(0, 100),
    layout=st.sampled_from(range(len(TIFF_OPTIONS))),
)
def test_rows_of_a_file_read_in_parts_equal_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: int, length: int, layout: int
) -> None:
    monkeypatch.setattr("microseg.core.images.tiff._WHOLE_BYTES", 0)
    grey = noise(100, 53, "uint16")
    path = tmp_path / f"{layout}.tif"
    if not path.exists():
        tifffile.imwrite(path, grey, **TIFF_OPTIONS[layout])
    stop = min(100, start + length)
    with open_micrograph(path) as micrograph:
        micrograph.rows(40, 60)  # leaves a band behind, as the stripe before would
        np.testing.assert_array_equal(micrograph.rows(start, stop), grey[start:stop])
        np.testing.assert_array_equal(micrograph.rows(start, stop, 5, 40), grey[start:stop, 5:40])


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P"])
def test_bitmaps(tmp_path: Path, name: str, mode: str) -> None:
    grey = noise(30, 40)
    Image.fromarray(grey).convert(mode).save(tmp_path / name)
    np.testing.assert_array_equal(whole(tmp_path / name), grey)


def test_palette_maps_indices_to_grey(tmp_path: Path) -> None:
    image = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8) % 3, mode="P")
    image.putpalette([10, 10, 10, 200, 200, 200, 90, 90, 90, 255, 0, 0])  # the red one is not used
    image.save(tmp_path / "a.png")
    assert set(np.unique(whole(tmp_path / "a.png"))) == {10, 90, 200}
    image.putpixel((0, 0), 3)
    image.save(tmp_path / "b.png")
    with pytest.raises(FieldError, match=r"1 of 64 px .* are coloured, in rows 0 to 0 and columns 0 to 0"):
        whole(tmp_path / "b.png")


def test_16_bit_png_grey_and_colour_keep_16_bits(tmp_path: Path) -> None:
    import cv2

    grey = noise(20, 30, "uint16")
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    cv2.imwrite(str(tmp_path / "rgb.png"), np.dstack([grey] * 3))
    cv2.imwrite(str(tmp_path / "rgba.png"), np.dstack([grey] * 3 + [np.full_like(grey, 65535)]))
    for name in ("grey", "rgb", "rgba"):
        np.testing.assert_array_equal(whole(tmp_path / f"{name}.png"), grey)


def test_grey_jpeg_saved_as_colour_is_grey(tmp_path: Path) -> None:
    grey = noise(64, 64)
    Image.fromarray(grey).save(tmp_path / "l.jpg", quality=95)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "rgb.jpg", quality=95)
    assert np.abs(whole(tmp_path / "l.jpg").astype(int) - whole(tmp_path / "rgb.jpg")).max() <= 3


def test_jpeg_inside_tiff(tmp_path: Path) -> None:
    grey = np.tile(np.arange(128, dtype=np.uint8), (64, 1))
    tifffile.imwrite(tmp_path / "a.tif", grey, compression="jpeg", tile=(32, 32))
    assert np.abs(whole(tmp_path / "a.tif").astype(int) - grey).max() <= 4


def test_a_bilevel_tiff_becomes_black_and_white(tmp_path: Path) -> None:
    black_white = noise(20, 37) > 100
    Image.fromarray(black_white).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(whole(tmp_path / "a.tif"), np.where(black_white, 255, 0))


def test_white_is_zero_is_shown_as_viewers_do(tmp_path: Path) -> None:
    grey = noise(20, 30)
    tifffile.imwrite(tmp_path / "a.tif", grey, photometric="miniswhite")
    np.testing.assert_array_equal(whole(tmp_path / "a.tif"), 255 - grey)


def test_other_number_types(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "double.tif", noise(20, 20, "float64"))
    assert whole(tmp_path / "double.tif").dtype == np.float32
    signed = noise(20, 20, "uint8").astype(np.int16)
    tifffile.imwrite(tmp_path / "signed.tif", signed)
    assert whole(tmp_path / "signed.tif").dtype == np.uint16
    tifffile.imwrite(tmp_path / "negative.tif", signed - 100)
    with pytest.raises(FieldError, match="negative"):
        whole(tmp_path / "negative.tif")
    tifffile.imwrite(tmp_path / "wide.tif", noise(20, 20, "uint32"))
    with pytest.raises(FieldError, match=r"uint32.*Remedy"):
        whole(tmp_path / "wide.tif")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(tmp_path: Path, bad: float) -> None:
    pixels = noise(20, 20, "float32")
    pixels[3, 4:7] = bad
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    with pytest.raises(FieldError, match="3 pixels are NaN or infinite"):
        whole(tmp_path / "a.tif")


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.jpg", "a.tif"])
def test_a_colour_image_names_the_remedy(tmp_path: Path, name: str) -> None:
    colour = np.dstack([noise(40, 40, seed=seed) for seed in range(3)])
    Image.fromarray(colour).save(tmp_path / name)
    with pytest.raises(FieldError, match=r"of 1600 px .* are coloured, in rows 0 to 39 .*Remedy: save it as grey"):
        whole(tmp_path / name)


def test_colour_outside_the_rows_and_columns_asked_for_does_not_matter(tmp_path: Path) -> None:
    pixels = np.dstack([noise(40, 40)] * 3)
    pixels[35:, :, 0] ^= 64
    pixels[:, 38:, 1] ^= 64
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb")
    with open_micrograph(tmp_path / "a.tif") as micrograph:
        np.testing.assert_array_equal(micrograph.rows(0, 35, 0, 38), pixels[:35, :38, 0])


def test_cmyk_and_many_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cmyk.tif", np.dstack([noise(20, 20)] * 4), photometric="separated")
    tifffile.imwrite(
        tmp_path / "five.tif", np.dstack([noise(20, 20)] * 5), photometric="minisblack", planarconfig="contig"
    )
    for name in ("cmyk.tif", "five.tif"):
        with pytest.raises(FieldError, match="channels"):
            whole(tmp_path / name)


@pytest.mark.parametrize("share", [0.05, 0.5, 0.97])
@pytest.mark.parametrize("name", ["plain.tif", "zlib.tif", "tiles.tif", "a.png", "a.bmp", "a.jpg"])
@pytest.mark.parametrize("in_parts", [False, True])
def test_truncated_files_fail_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, share: float, in_parts: bool
) -> None:
    if in_parts:
        monkeypatch.setattr("microseg.core.images.tiff._WHOLE_BYTES", 0)
    path = tmp_path / name
    grey = noise(120, 130)
    if path.suffix == ".tif":
        options: dict[str, dict[str, Any]] = {"plain": {}, "zlib": {"compression": "zlib"}, "tiles": {"tile": (32, 32)}}
        tifffile.imwrite(path, grey, **options[path.stem])
    else:
        Image.fromarray(grey).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(FieldError, match=name):
        whole(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    position=st.integers(0, 3000),
    value=st.integers(0, 255),
    kind=st.sampled_from(["zlib.tif", "lzw.tif", "a.png", "a.bmp"]),
)
def test_a_damaged_byte_never_ends_in_a_traceback(tmp_path: Path, position: int, value: int, kind: str) -> None:
    path = tmp_path / kind
    grey = noise(40, 50)
    if kind.endswith(".tif"):
        tifffile.imwrite(path, grey, compression=kind.split(".")[0], rowsperstrip=8)
    else:
        Image.fromarray(grey).save(path)
    content = bytearray(path.read_bytes())
    content[position % len(content)] = value
    path.write_bytes(bytes(content))
    try:
        whole(path)
    except FieldError as error:
        assert kind in str(error)  # noqa: PT017 - either a picture or a message that names the file


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.tif").touch()
    (tmp_path / "text.tif").write_text("not an image")
    (tmp_path / "header.tif").write_bytes(b"II*\0")
    for name, reason in (
        ("empty.tif", "empty"),
        ("text.tif", "no image"),
        ("header.tif", "cannot be decoded"),
        ("gone.tif", "opened"),
    ):
        with pytest.raises(FieldError, match=f"{name}.*{reason}"):
            whole(tmp_path / name)


def test_content_counts_and_not_the_suffix(tmp_path: Path) -> None:
    grey = noise(20, 20)
    Image.fromarray(grey).save(tmp_path / "a.png")
    shutil.move(tmp_path / "a.png", tmp_path / "a.tif")
    np.testing.assert_array_equal(whole(tmp_path / "a.tif"), grey)


def test_a_bitmap_too_large_to_decode_whole_is_refused_before_decoding(tmp_path: Path) -> None:
    Image.new("L", (20, 20)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 20000, 20000) + content[24:29]
    (tmp_path / "a.png").write_bytes(content[:12] + header + struct.pack(">I", zlib.crc32(header)) + content[33:])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FieldError, match="save an image of this size as tiled or stripped TIFF"):
            open_micrograph(tmp_path / "a.png")


def test_a_giant_compressed_strip_is_refused_and_a_plain_one_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microseg.core.images.tiff._WHOLE_BYTES", 0)
    monkeypatch.setattr("microseg.core.images.tiff._MAX_SEGMENT_BYTES", 1000)
    grey = noise(60, 60)
    tifffile.imwrite(tmp_path / "plain.tif", grey, rowsperstrip=60)
    np.testing.assert_array_equal(whole(tmp_path / "plain.tif"), grey)
    tifffile.imwrite(tmp_path / "zlib.tif", grey, rowsperstrip=60, compression="zlib")
    with pytest.raises(FieldError, match="short strips"):
        whole(tmp_path / "zlib.tif")


def test_a_field_gone_while_open_fails_as_a_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microseg.core.images.tiff._WHOLE_BYTES", 0)
    tifffile.imwrite(tmp_path / "a.tif", noise(500, 500))
    with open_micrograph(tmp_path / "a.tif") as micrograph:
        (tmp_path / "a.tif").write_bytes(b"")
        with pytest.raises(FieldError, match=r"a\.tif"):
            micrograph.rows(400, 500)


def test_find_images(tmp_path: Path) -> None:
    for name in (
        "b.tif",
        "a.png",
        "a.tif",
        "sub/deep/c.JPG",
        "notes.txt",
        ".hidden.tif",
        ".cache/x.tif",
        "old/overlays/b.tif.jpg",
        "old/records/b.tif.json",
        "old/settings.json",
        "lot7-report/d.tif",
        "masks/b.tif",
        "sub/masks/c.png",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert names == ["a.tif", "b.tif", "lot7-report/d.tif", "sub/deep/c.JPG"], "a report is known by what it holds"
    assert find_images(tmp_path / "b.tif") == [tmp_path / "b.tif"]


def test_find_images_leaves_out_the_masks_that_a_domain_yaml_names(tmp_path: Path) -> None:
    for name in ("images/a.tif", "labels/a.png", "masks/a.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "domain.yaml").write_text("masks: labels\n")
    assert find_images(tmp_path) == [tmp_path / "images" / "a.tif"]
    for folder in ("labels", "masks"):
        with pytest.raises(InputError, match="holds the masks of a domain"):
            find_images(tmp_path / folder)


def test_find_images_leaves_out_masks_beside_the_images(tmp_path: Path) -> None:
    for name in ("a.tif", "a_mask.png", "b_mask.tif"):
        (tmp_path / name).touch()
    (tmp_path / "domain.yaml").write_text("images: .\nmasks: .\nmask_suffix: _mask\n")
    assert [path.name for path in find_images(tmp_path)] == ["a.tif", "b_mask.tif"]


def test_find_images_follows_links_once(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.tif").touch()
    try:
        (tmp_path / "real" / "loop").symlink_to(tmp_path, target_is_directory=True)
        (tmp_path / "gone.tif").symlink_to(tmp_path / "nowhere.tif")
    except OSError:
        pytest.skip("this system lets no one make links")
    assert [path.name for path in find_images(tmp_path)] == ["gone.tif", "a.tif"]


def test_find_images_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_images(tmp_path / "nowhere")
    (tmp_path / "a.txt").touch()
    with pytest.raises(InputError, match="no image file"):
        find_images(tmp_path / "a.txt")


@pytest.mark.parametrize("whole_bytes", [64 << 20, 0], ids=["held", "in stripes"])
@pytest.mark.parametrize("options", [{"tile": (32, 48)}, {"rowsperstrip": 32, "compression": "zlib"}], ids=str)
def test_tiles_that_were_never_written_are_excluded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], whole_bytes: int
) -> None:
    monkeypatch.setattr("microseg.core.images.tiff._WHOLE_BYTES", whole_bytes)
    grey = noise(100, 130)
    tifffile.imwrite(tmp_path / "a.tif", grey, metadata=None, **options)
    without_segments(tmp_path / "a.tif", {1, 3})
    tiled = "tile" in options
    outside = np.zeros(grey.shape, bool)
    outside[np.s_[:32, 48:96] if tiled else np.s_[32:64]] = True
    outside[np.s_[32:64, :48] if tiled else np.s_[96:]] = True
    with open_micrograph(tmp_path / "a.tif") as micrograph:
        (found,) = micrograph.exclusions
        assert found.reason == "in tiles that were never written"
        np.testing.assert_array_equal(found.rows(20, 99), outside[20:99])
        np.testing.assert_array_equal(micrograph.rows(20, 99), np.where(outside, 0, grey)[20:99])
    without_segments(tmp_path / "a.tif", set(range(12 if tiled else 4)))
    with pytest.raises(FieldError, match="was ever written"):
        open_micrograph(tmp_path / "a.tif")


def without_segments(path: Path, left_out: set[int]) -> None:
    """Make a TIFF sparse, as GDAL and libtiff write tiles that they never got."""
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages.first
        offsets, counts = (324, 325) if page.is_tiled else (273, 279)
        for code, values in ((offsets, page.dataoffsets), (counts, page.databytecounts)):
            page.tags[code].overwrite([0 if index in left_out else value for index, value in enumerate(values)])
