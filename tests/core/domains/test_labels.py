"""Masks as indices, grey values, overlay colours, any grey, anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageOps

from microseg.core.domains.labels import UNLABELLED, PhaseSpec, read_mask, to_phases
from microseg.core.errors import InputError
from microseg.core.pictures.png import MaskWriter
from tests.core.samples import halves, noise

A, B, C = "#111111", "#222222", "#333333"


def labels(path: Path, *values: tuple[int | str, ...], unlabelled: int | str | None = None) -> NDArray[np.uint8]:
    phases = [PhaseSpec(f"p{index}", A, value) for index, value in enumerate(values)]
    return to_phases(read_mask(path), phases, unlabelled)


def overlay(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey with blue on the left third and red in one corner."""
    pixels = np.dstack([grey] * 3)
    pixels[:, :10] = (0, 0, 255)
    pixels[:4, -4:] = (255, 0, 0)
    return pixels


def expected_overlay(shape: tuple[int, ...]) -> NDArray[np.uint8]:
    phases = np.zeros(shape[:2], np.uint8)
    phases[:, :10] = 1
    phases[:4, -4:] = 2
    return phases


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("with_alpha", [False, True])
@pytest.mark.parametrize("rest", ["grey", "other"])
def test_overlay_colours_with_any_grey(tmp_path: Path, name: str, with_alpha: bool, rest: str) -> None:
    pixels = overlay(noise(20, 30))
    if with_alpha:
        pixels = np.dstack([pixels, np.full((20, 30), 255, np.uint8)])
    Image.fromarray(pixels).save(tmp_path / name)
    found = labels(tmp_path / name, (rest,), ("#0000ff",), ("#ff0000",))
    np.testing.assert_array_equal(found, expected_overlay(pixels.shape))


def test_several_values_make_one_phase(tmp_path: Path) -> None:
    Image.fromarray(overlay(noise(20, 30))).save(tmp_path / "a.png")
    found = labels(tmp_path / "a.png", ("grey",), ("#0000ff", "#ff0000"))
    np.testing.assert_array_equal(found, np.minimum(expected_overlay(found.shape), 1))


def test_an_overlay_without_overlay_is_all_grey(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([noise(20, 30)] * 3)).save(tmp_path / "a.png")
    assert labels(tmp_path / "a.png", ("grey",), ("#0000ff",)).max() == 0


def test_exact_values_win_over_grey_and_grey_over_other(tmp_path: Path) -> None:
    pixels = overlay(np.full((20, 30), 90, np.uint8))
    pixels[10:, 20:] = 7
    Image.fromarray(pixels).save(tmp_path / "a.png")
    found = labels(tmp_path / "a.png", ("other",), ("grey",), (7,), ("#ff0000",))
    assert found[15, 25] == 2
    assert found[15, 15] == 1
    assert found[0, 0] == 0
    assert found[0, 29] == 3
    assert labels(tmp_path / "a.png", ("other",), ("#5a5a5a",), ("#070707",))[15, 25] == 2


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "int64", "uint32", "float32", "float64"])
def test_index_masks_of_any_number_type(tmp_path: Path, dtype: str) -> None:
    mask = halves(values=(0, 1, 2))
    tifffile.imwrite(tmp_path / "a.tif", mask.astype(dtype))
    np.testing.assert_array_equal(labels(tmp_path / "a.tif", (0,), (1,), (2,)), mask)


def test_grey_values_beyond_8_bit(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", halves().astype(np.uint16) * 1000)
    np.testing.assert_array_equal(labels(tmp_path / "a.tif", (0,), (1000,)), halves())


def test_a_palette_mask_by_index_or_by_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(halves(values=(0, 1, 2)), mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    for values in (((0,), (1,), (2,)), (("#ff0000",), ("#00ff00",), ("#0000ff",))):
        np.testing.assert_array_equal(labels(tmp_path / "a.png", *values), halves(values=(0, 1, 2)))


def test_black_and_white_masks(tmp_path: Path) -> None:
    Image.fromarray(halves().astype(bool)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(labels(tmp_path / "a.png", (0,), (255,)), halves())


@pytest.mark.parametrize("values", [((0,), (1,)), ((0,), (255,)), (("#000000",), ("#ffffff",))])
@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_one_bit_is_1_and_white(tmp_path: Path, name: str, values: Any) -> None:
    Image.fromarray(halves().astype(bool)).save(tmp_path / name)
    np.testing.assert_array_equal(labels(tmp_path / name, *values), halves())


@pytest.mark.parametrize("dtype", ["bool", "uint8", "uint16"])
def test_white_is_zero_counts_as_viewers_show_it(tmp_path: Path, dtype: str) -> None:
    white = 255 if dtype == "bool" else np.iinfo(dtype).max
    shown = halves().astype(dtype) * white if dtype != "bool" else halves().astype(bool)
    tifffile.imwrite(tmp_path / "a.tif", ~shown, photometric="miniswhite")
    np.testing.assert_array_equal(labels(tmp_path / "a.tif", (0,), (int(white),)), halves())
    stored = np.where(halves(), 0, 1).astype(np.uint8)
    tifffile.imwrite(tmp_path / "b.tif", stored, photometric="miniswhite")
    with pytest.raises(InputError, match=r"254 \(640 px\).*stores white as zero"):
        labels(tmp_path / "b.tif", (0,), (1,))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_mask_is_turned_as_viewers_turn_it(tmp_path: Path, orientation: int) -> None:
    mask = noise(20, 30) % 3
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(mask).save(tmp_path / "a.png", exif=exif)
    tifffile.imwrite(tmp_path / "a.tif", mask, extratags=[(274, "H", 1, orientation, True)])
    with Image.open(tmp_path / "a.png") as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(labels(tmp_path / name, (0,), (1,), (2,)), expected)


def test_a_fiji_lut_counts_by_index(tmp_path: Path) -> None:
    lut = np.zeros((3, 256), np.uint16)
    lut[0, 1] = lut[1, 2] = 65535
    tifffile.imwrite(tmp_path / "a.tif", halves() + 1, photometric="palette", colormap=lut)
    np.testing.assert_array_equal(labels(tmp_path / "a.tif", (1,), (2,)), halves())
    np.testing.assert_array_equal(labels(tmp_path / "a.tif", ("#ff0000",), ("#00ff00",)), halves())


def test_a_palette_of_greys_counts_by_its_greys_where_they_are_stated(tmp_path: Path) -> None:
    image = Image.fromarray(1 - halves(), mode="P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(labels(tmp_path / "a.png", (0,), (255,)), halves())
    np.testing.assert_array_equal(labels(tmp_path / "a.png", (0,), (1,)), 1 - halves())
    with pytest.raises(InputError, match=r'1, in the palette "#000000" \(640 px\)'):
        labels(tmp_path / "a.png", (0,), (2,))


ONE_HOT = np.stack([halves(values=(0, 1, 2)) == value for value in range(3)])


@pytest.mark.parametrize("white", [1, 255])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("layout", ["pages", "channels", "planes"])
def test_one_hot_pages_and_channels(tmp_path: Path, white: int, dtype: str, layout: str) -> None:
    planes = (ONE_HOT * white).astype(dtype)
    if layout == "pages":
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    elif layout == "channels":
        tifffile.imwrite(
            tmp_path / "a.tif", np.moveaxis(planes, 0, -1), photometric="minisblack", planarconfig="contig"
        )
    else:
        tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack", planarconfig="separate")
    mask = read_mask(tmp_path / "a.tif")
    assert mask.one_hot == 3
    for values in (
        ((0,), (1,), (2,)),
        ((1,), (2,), (3,)),
        ((0,), (128,), (255,)),
        (("#000000",), ("grey",), ("other",)),
    ):
        np.testing.assert_array_equal(labels(tmp_path / "a.tif", *values), halves(values=(0, 1, 2)))
    np.testing.assert_array_equal(labels(tmp_path / "a.tif", (2,), (1,), (0,)), halves(values=(2, 1, 0)))
    with pytest.raises(InputError, match="one-hot with 3 pages or channels, and 2 phases are stated"):
        labels(tmp_path / "a.tif", (0,), (255,))


def test_one_hot_pages_that_follow_one_another_without_headers(tmp_path: Path) -> None:
    planes = ONE_HOT.astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack", truncate=True)
    np.testing.assert_array_equal(labels(tmp_path / "a.tif", (0,), (1,), (2,)), halves(values=(0, 1, 2)))
    tifffile.imwrite(tmp_path / "b.tif", ~(planes * 255), photometric="miniswhite")
    np.testing.assert_array_equal(labels(tmp_path / "b.tif", (0,), (1,), (2,)), halves(values=(0, 1, 2)))


def test_a_page_marked_as_reduced_is_no_page_of_a_mask(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(halves()[::4, ::4], subfiletype=1)
        tif.write(halves())
    assert read_mask(tmp_path / "a.tif").one_hot == 0


@pytest.mark.parametrize(
    ("planes", "reason"),
    [
        (np.stack([noise(20, 30), noise(20, 30)]), r"2 pages that are not one-hot \(values from 1 to 255"),
        (ONE_HOT[:2].astype(np.uint8), r"2 pages that are not one-hot \(384 pixels are on none of them, 0 on more"),
        (np.ones((2, 20, 30), np.uint8), r"2 pages that are not one-hot \(0 pixels are on none of them, 600 on more"),
        (np.full((2, 20, 30), 0.5, np.float32), "600 on more"),
    ],
)
def test_pages_that_are_not_one_hot(tmp_path: Path, planes: NDArray[Any], reason: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="minisblack")
    with pytest.raises(InputError, match=reason) as caught:
        read_mask(tmp_path / "a.tif")
    assert "Remedy: save the labels as one page" in str(caught.value)


def test_pages_of_different_sizes(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        tif.write(halves())
        tif.write(halves()[::4, ::4])
    with pytest.raises(InputError, match="2 pages that are not one-hot"):
        read_mask(tmp_path / "a.tif")


def test_blurred_borders_are_refused_with_a_remedy_that_works(tmp_path: Path) -> None:
    mask = cv2.GaussianBlur(halves(values=(0, 255)) * np.uint8(1), (9, 9), 0)
    Image.fromarray(mask).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="They lie between the values of the phases") as caught:
        labels(tmp_path / "a.png", (0,), (255,))
    assert "without anti-aliasing" in str(caught.value)
    assert "add them to `phases`" not in str(caught.value)
    # The remedy: a threshold.
    Image.fromarray(np.where(mask > 127, np.uint8(255), np.uint8(0))).save(tmp_path / "b.png")
    np.testing.assert_array_equal(labels(tmp_path / "b.png", (0,), (255,)), halves())


def painted(path: Path, hidden: tuple[int, int, int]) -> None:
    """Red on the right half, and nothing but a hidden colour on the left."""
    pixels = np.zeros((32, 40, 4), np.uint8)
    pixels[..., :3] = hidden
    pixels[:, 20:] = (255, 0, 0, 255)
    Image.fromarray(pixels).save(path)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("hidden", [(255, 255, 255), (0, 0, 0), (255, 0, 0), (255, 0, 1)])
def test_transparent_pixels_can_be_named(tmp_path: Path, name: str, hidden: tuple[int, int, int]) -> None:
    painted(tmp_path / name, hidden)
    np.testing.assert_array_equal(labels(tmp_path / name, ("transparent",), ("#ff0000",)), halves())
    found = labels(tmp_path / name, ("#0000ff",), ("#ff0000",), unlabelled="transparent")
    np.testing.assert_array_equal(found, halves(values=(UNLABELLED, 1)))


def test_transparent_pixels_that_are_not_named_count_by_their_colour_unless_it_means_two_things(tmp_path: Path) -> None:
    painted(tmp_path / "a.png", (255, 255, 255))
    for rest in ("#ffffff", "grey", "other"):
        np.testing.assert_array_equal(labels(tmp_path / "a.png", (rest,), ("#ff0000",)), halves())
    painted(tmp_path / "b.png", (255, 0, 0))
    with pytest.raises(InputError, match=r"640 transparent pixels have a colour that opaque.*value: transparent"):
        labels(tmp_path / "b.png", ("other",), ("#ff0000",))


def test_255_of_a_reports_mask_is_not_labelled(tmp_path: Path) -> None:
    for name, values in (("a.png", (0, 1, 255)), ("b.png", (0, 255))):
        with (tmp_path / name).open("wb") as stream:
            writer = MaskWriter(stream, 32, 40, ["#0072b2", "#e69f00"])
            writer.write(halves(values=values))
            writer.finish()
        np.testing.assert_array_equal(labels(tmp_path / name, (0,), (1,)), halves(values=values))
        np.testing.assert_array_equal(labels(tmp_path / name, (0,), ("other",)), halves(values=values))
    np.testing.assert_array_equal(labels(tmp_path / "b.png", (0,), (255,)), halves())


@pytest.mark.parametrize("value", [9, "#090909"])
def test_unlabelled_pixels(tmp_path: Path, value: int | str) -> None:
    Image.fromarray(halves(values=(0, 1, 9))).save(tmp_path / "a.png")
    found = labels(tmp_path / "a.png", (0,), (1,), unlabelled=value)
    np.testing.assert_array_equal(found, halves(values=(0, 1, UNLABELLED)))


def test_unknown_values_are_named_with_their_pixels_and_file(tmp_path: Path) -> None:
    mask = halves(32, 40, (0, 1))
    mask[0, :5], mask[1, :2] = 77, 99
    Image.fromarray(mask).save(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png: 7 pixels .*: 77 \(5 px\), 99 \(2 px\)\. Known: 0, 1\."):
        labels(tmp_path / "a.png", (0,), (1,))
    pixels = overlay(noise(20, 30))
    pixels[5, 15:18] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r'b\.png: 3 pixels .*"#010203" \(3 px\)'):
        labels(tmp_path / "b.png", ("grey",), ("#0000ff",), ("#ff0000",))


def test_the_commonest_of_many_unknown_values_are_named(tmp_path: Path) -> None:
    Image.fromarray(noise(64, 64)).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="and 246 more values") as caught:
        labels(tmp_path / "a.png", (0,), (1,))
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("write", "reason"),
    [
        (lambda path: Image.fromarray(halves()).save(path, format="JPEG"), "compressed with loss"),
        (
            lambda path: tifffile.imwrite(path, halves() + np.float32(0.5)),
            r"1280 values are not whole numbers, such as 0\.5",
        ),
        (lambda path: tifffile.imwrite(path, halves() * np.float32(np.nan)), "not whole numbers, such as nan"),
        (lambda path: tifffile.imwrite(path, halves().astype(np.int64) * 70000), "values from 0 to 70000"),
        (lambda path: tifffile.imwrite(path, halves().astype(np.int32) - 1), "whole numbers"),
        (lambda path: tifffile.imwrite(path, overlay(noise(20, 30)) * np.uint16(2), photometric="rgb"), "8 bit"),
        (lambda path: path.write_bytes(b""), "empty"),
    ],
)
def test_masks_that_cannot_be_used(tmp_path: Path, write: Any, reason: str) -> None:
    path = tmp_path / "a.tif"
    write(path)
    with pytest.raises(InputError, match=reason) as caught:
        labels(path, (0,), (1,))
    assert "a.tif" in str(caught.value)


def test_colours_of_8_bit_stored_as_16_bit(tmp_path: Path) -> None:
    pixels = overlay(noise(20, 30))
    tifffile.imwrite(tmp_path / "a.tif", pixels * np.uint16(257), photometric="rgb")
    found = labels(tmp_path / "a.tif", ("grey",), ("#0000ff",), ("#ff0000",))
    np.testing.assert_array_equal(found, expected_overlay(pixels.shape))
