"""Masks as indices, grey values, overlay colours, any grey, anything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.labels import UNLABELLED, PhaseSpec, read_mask, to_phases
from microseg.core.errors import InputError
from tests.core.samples import halves, noise

A, B, C = "#111111", "#222222", "#333333"


def labels(path: Path, *values: tuple[int | str, ...], unlabelled: int | str | None = None) -> NDArray[np.uint8]:
    phases = [PhaseSpec(f"p{index}", A, value) for index, value in enumerate(values)]
    return to_phases(*read_mask(path), phases, unlabelled, path)


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


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32"])
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
        (lambda path: Image.fromarray(halves()).save(path, format="JPEG"), "JPEG has blurred values"),
        (lambda path: tifffile.imwrite(path, halves() + np.float32(0.5)), "whole numbers"),
        (lambda path: tifffile.imwrite(path, halves().astype(np.int32) - 1), "whole numbers"),
        (lambda path: tifffile.imwrite(path, overlay(noise(20, 30)).astype(np.uint16), photometric="rgb"), "8 bit"),
        (lambda path: path.write_bytes(b""), "empty"),
    ],
)
def test_masks_that_cannot_be_used(tmp_path: Path, write: Any, reason: str) -> None:
    path = tmp_path / "a.tif"
    write(path)
    with pytest.raises(InputError, match=reason) as caught:
        labels(path, (0,), (1,))
    assert "a.tif" in str(caught.value)
