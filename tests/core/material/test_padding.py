"""Padding is found in mosaics, turned pictures and aborted scans, and never in material that a detector clips."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.material import padding as module
from microseg.core.material.padding import padding
from microseg.synthetic.field import synthesise_field

DATA = Path(__file__).parents[4] / "shared" / "data"
Case = tuple[NDArray[Any], NDArray[np.bool_]]


def found(grey: NDArray[Any], **options: Any) -> NDArray[np.bool_]:
    outside = padding(
        lambda start, stop, *columns: grey[start:stop, slice(*columns or (None,))], *grey.shape, **options
    )
    return np.zeros(grey.shape, bool) if outside is None else outside(0, len(grey))


@pytest.fixture(scope="module")
def material() -> NDArray[np.uint8]:
    return synthesise_field("t1", 3, size_px=(360, 300)).image


def mosaic(tile: NDArray[np.uint8], value: int) -> Case:
    """Two by two pictures, each shifted a little."""
    side = 250
    grey = np.full((2 * side + 60, 2 * side + 60), value, np.uint8)
    for top, left in ((0, 20), (13, 290), (270, 0), (290, 300)):
        part = tile[:side, :side]
        room = grey[top : top + side, left : left + side]
        room[...] = part[: room.shape[0], : room.shape[1]]
    outside = np.ones(grey.shape, bool)
    for top, left in ((0, 20), (13, 290), (270, 0), (290, 300)):
        outside[top : top + side, left : left + side] = False
    return grey, outside


def turned(case: Case, degrees: float, value: int, how: int) -> Case:
    """A picture turned in an editor, which fills the corners."""
    grey, outside = case
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    high, wide = (int(abs(a * turn[0, 0]) + abs(b * turn[0, 1])) + 2 for a, b in ((height, width), (width, height)))
    turn[:, 2] += (wide - width) / 2, (high - height) / 2
    inside = cv2.warpAffine((~outside).astype(np.uint8), turn, (wide, high), flags=cv2.INTER_NEAREST)
    return np.asarray(cv2.warpAffine(grey, turn, (wide, high), flags=how, borderValue=float(value))), inside == 0


def whole(grey: NDArray[Any]) -> Case:
    return grey, np.zeros(grey.shape, bool)


@pytest.mark.parametrize("value", [0, 255, 131])
def test_a_mosaic_is_measured_to_the_pixel(material: NDArray[np.uint8], value: int) -> None:
    grey, outside = mosaic(material, value)
    difference = found(grey) ^ outside
    # Pixels of the material beside the padding that have its value by chance cannot be told from it.
    assert not (difference & outside).any() and difference.mean() < 2e-4
    assert (grey[difference] == value).all()


@pytest.mark.parametrize(
    "how", [cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC], ids=["nearest", "linear", "cubic"]
)
@pytest.mark.parametrize("degrees", [1, 7, 30, 45])
def test_turned_pictures_and_mosaics(material: NDArray[np.uint8], degrees: float, how: int) -> None:
    for value in (0, 255):
        for case in (whole(material), mosaic(material, value)):
            grey, outside = turned(case, degrees, value, how)
            # The editor mixes the pixels along an edge. Beside them, material of the value cannot be told from the padding.
            edge = cv2.dilate(outside.astype(np.uint8), np.ones((5, 5))) != cv2.erode(
                outside.astype(np.uint8), np.ones((5, 5))
            )
            difference = (found(grey) ^ outside) & ~edge
            assert not (difference & outside).any() and difference.sum() <= 5


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_an_aborted_scan_of_any_type(material: NDArray[np.uint8], dtype: str) -> None:
    grey = material.astype(dtype) * 3
    grey[200:] = 0
    outside = np.zeros(grey.shape, bool)
    outside[200:] = True
    assert np.array_equal(found(grey), outside)


def test_black_pores_beside_the_padding_do_not_hide_it(material: NDArray[np.uint8]) -> None:
    low = np.percentile(material, 5)
    clipped = np.clip((material - low) * 1.3, 0, 255).astype(np.uint8)
    assert (clipped == 0).mean() > 0.04
    grey, outside = mosaic(clipped, 0)
    difference = found(grey) ^ outside
    assert not (difference & outside).any() and difference.mean() < 0.004


def test_jpeg_blurs_the_edges_of_padding(material: NDArray[np.uint8], tmp_path: Path) -> None:
    grey, outside = mosaic(material, 0)
    Image.fromarray(grey).save(tmp_path / "a.jpg", quality=90)
    lossy = np.asarray(Image.open(tmp_path / "a.jpg"))
    assert (found(lossy, is_lossy=True) ^ outside).mean() < 0.01


def test_stripes_equal_the_whole(material: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    grey, _ = turned(mosaic(material, 0), 7, 0, cv2.INTER_LINEAR)
    wanted = found(grey)
    sizes: list[int] = []

    def rows(start: int, stop: int, left: int = 0, right: int | None = None) -> NDArray[Any]:
        sizes.append(stop - start)
        return grey[start:stop, left:right]

    monkeypatch.setattr(module, "_STRIPE_PX", 1)
    monkeypatch.setattr(module, "_SAMPLED_FROM_PX", 100)
    outside = padding(rows, *grey.shape)
    assert outside is not None and max(sizes) <= 256 < len(grey)
    assert np.array_equal(np.concatenate([outside(start, start + 1) for start in range(len(grey))]), wanted)


def test_larger_blocks_of_a_large_picture(material: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_BLOCKS", 4000)
    grey, outside = mosaic(material, 0)
    assert (found(grey) ^ outside).mean() < 2e-3


def clipped(grey: NDArray[np.uint8]) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """A field as it is, and as a detector with too much gain or offset would give it."""
    yield "as it is", grey
    for low, high in ((2, 98), (20, 100), (0, 80), (40, 100), (0, 60), (30, 70)):
        below, above = np.percentile(grey, [low, high])
        yield f"{low} to {high}", np.clip((grey - below) * 255 / max(above - below, 1), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("domain", ["s", "t1", "t2", "t3"])
def test_clipped_material_is_no_padding(domain: str) -> None:
    grey = synthesise_field(domain, 11, size_px=(320, 256)).image
    for name, field in clipped(grey):
        assert not found(field).any(), name


@pytest.mark.skipif(not DATA.is_dir(), reason="the real micrographs are not here")
@pytest.mark.parametrize(
    "pattern", ["coating/*/images/*.png", "superalloy/*/*.tif", "superalloy-aged/images/*.jpg", "titanium/images/*.jpg"]
)
def test_no_real_micrograph_has_padding(pattern: str) -> None:
    paths = sorted(DATA.glob(pattern))
    assert paths
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))[..., 1]
        assert not found(pixels, is_lossy=path.suffix == ".jpg").any(), path.name


@pytest.mark.parametrize("slope", [0.0, 0.03, 0.3])
@pytest.mark.parametrize("blur_px", [0.7, 1.5])
def test_a_flat_layer_that_is_clipped_is_no_padding(blur_px: float, slope: float) -> None:
    """Its edge is straight, but optics blur it, also where there is hardly any noise."""
    down, across = np.mgrid[:300, :400]
    layer = cv2.GaussianBlur(np.where(down - slope * across < 150, 10.0, 150.0), (0, 0), blur_px)
    for noise in (1, 6):
        grey = np.clip(layer + np.random.default_rng(1).normal(0, noise, layer.shape) - 60, 0, 255).astype(np.uint8)
        assert (grey == 0).mean() > 0.3
        assert not found(grey).any()
