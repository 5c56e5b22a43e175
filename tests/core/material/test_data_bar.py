"""Data bars are found in the picture, and never a band of material."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.material.data_bar import FoundBar, find_bar, looks_like_bar
from microseg.synthetic.field import synthesise_field
from tests.core.material.bars import framed_table, line_of_text, uniform
from tests.core.material.test_padding import DATA, clipped

WIDTH = 400
BARS = {
    "text on black": line_of_text(WIDTH),
    "text on white": line_of_text(WIDTH, 255, 0),
    "text on grey": line_of_text(WIDTH, 40, 230),
    "table on black": framed_table(WIDTH),
    "table on white": framed_table(WIDTH, 255, 0),
    "black": uniform(WIDTH, 0),
    "white": uniform(WIDTH, 255),
}


@pytest.fixture(scope="module")
def material() -> NDArray[np.uint8]:
    return synthesise_field("s", 5, size_px=(WIDTH, 300)).image


def found(grey: NDArray[Any], *, at_top: bool, **options: Any) -> FoundBar | None:
    return find_bar(lambda start, stop: grey[start:stop], *grey.shape, at_top=at_top, **options)


@pytest.mark.parametrize("at_top", [False, True], ids=["bottom", "top"])
@pytest.mark.parametrize("name", BARS)
def test_bars_are_found_to_the_row(material: NDArray[np.uint8], name: str, at_top: bool) -> None:
    bar = BARS[name]
    low, high = np.percentile(material, [8, 92])
    with_pores = np.clip((material - low) * 255 / (high - low), 0, 255).astype(np.uint8)
    for field in (material, with_pores):
        grey = np.vstack([bar, field] if at_top else [field, bar])
        wanted = FoundBar(len(bar), True, name in ("black", "white"))
        assert found(grey, at_top=at_top) == wanted
        assert found(grey, at_top=not at_top) is None
        assert looks_like_bar(bar) and not looks_like_bar(field[:40])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_bars_in_pictures_of_any_type(material: NDArray[np.uint8], dtype: str) -> None:
    for bar in (BARS["text on black"].astype(dtype) * 257, BARS["table on white"].astype(dtype)):
        grey = np.vstack([material.astype(dtype) * 16 + 3, bar])
        assert found(grey, at_top=False) == FoundBar(len(bar), True, False)


def test_a_bar_of_a_picture_that_was_made_smaller(material: NDArray[np.uint8]) -> None:
    bar = line_of_text(WIDTH, rows=51)
    grey = cv2.resize(np.vstack([material, bar]), None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    bar_found = found(grey, at_top=False)
    assert bar_found is not None and bar_found.rows in (25, 26)


@pytest.mark.parametrize("name", ["text on black", "table on white", "text on grey"])
def test_a_bar_in_a_jpeg(material: NDArray[np.uint8], tmp_path: Path, name: str) -> None:
    bar = BARS[name]
    Image.fromarray(np.vstack([material, bar])).save(tmp_path / "a.jpg", quality=90)
    bar_found = found(np.asarray(Image.open(tmp_path / "a.jpg")), at_top=False, is_lossy=True)
    assert bar_found is not None and bar_found.is_sure and abs(bar_found.rows - len(bar)) <= 2


def test_a_band_full_of_text_may_be_a_bar(material: NDArray[np.uint8]) -> None:
    bar = np.zeros((24, WIDTH), np.uint8)
    cv2.putText(bar, "many words 0123456789 and numbers 0123456789 mm kV", (0, 17), 0, 0.5, 255, 1, cv2.LINE_AA)
    bar_found = found(np.vstack([material, bar]), at_top=False)
    assert bar_found is not None and bar_found.rows == 24 and not bar_found.is_sure


@pytest.mark.parametrize("at_top", [False, True], ids=["bottom", "top"])
@pytest.mark.parametrize("domain", ["s", "t1", "t2", "t3"])
def test_no_band_of_material_is_a_bar(domain: str, at_top: bool) -> None:
    for name, field in clipped(synthesise_field(domain, 11, size_px=(320, 256)).image):
        assert found(field, at_top=at_top) is None, name


@pytest.mark.skipif(not DATA.is_dir(), reason="the real micrographs are not here")
def test_no_real_micrograph_has_a_bar() -> None:
    patterns = ("coating/*/images/*.png", "superalloy/*/*.tif", "superalloy-aged/images/*.jpg", "titanium/images/*.jpg")
    paths = [path for pattern in patterns for path in DATA.glob(pattern)]
    assert len(paths) > 80
    for path in paths:
        grey = np.asarray(Image.open(path).convert("RGB"))[..., 1]
        for at_top in (False, True):
            assert found(grey, at_top=at_top, is_lossy=path.suffix == ".jpg") is None, path.name


@pytest.mark.parametrize("slope", [0.0, 0.003, 0.03])
@pytest.mark.parametrize("blur_px", [1.0, 1.5])
def test_a_flat_layer_that_is_clipped_is_no_bar(blur_px: float, slope: float) -> None:
    down, across = np.mgrid[:300, :400]
    layer = np.where(down - slope * across < 60, 10.0, 150.0)
    with_pores = layer.copy()
    rng = np.random.default_rng(0)
    for x, y in zip(rng.integers(0, 400, 40), rng.integers(0, 60, 40), strict=True):
        cv2.circle(with_pores, (int(x), int(y)), 2, 255.0, -1)
    for truth in (layer, with_pores):
        for noise in (1, 6):
            grey = cv2.GaussianBlur(truth, (0, 0), blur_px) + rng.normal(0, noise, layer.shape)
            bar = found(np.clip(grey - 60, 0, 255).astype(np.uint8), at_top=True)
            assert bar is None or not bar.is_sure
