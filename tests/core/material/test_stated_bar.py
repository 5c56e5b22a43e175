"""The height of the data bar as microscopes write it into tags, and into texts beside the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from microseg.core.images.micrograph import open_micrograph
from microseg.core.material.material import find_material
from microseg.core.material.stated_bar import StatedBar
from microseg.core.schemas.preparation import Crop, Preparation
from tests.core.material.bars import line_of_text
from tests.core.samples import noise

HEIGHT, WIDTH, BAR = 200, 300, 40
FEI = "[Image]\r\nResolutionX={}\r\nResolutionY={}\r\n[PrivateFei]\r\nDatabarHeight={}\r\n"
SHOWN = np.vstack([noise(HEIGHT, WIDTH), line_of_text(WIDTH, rows=BAR)])
PLAIN = noise(HEIGHT + BAR, WIDTH)


def written(path: Path, tag: int | None = None, text: str = "", pixels: np.ndarray = PLAIN) -> Path:
    tags = [] if tag is None else [(tag, 2, 0, text, True)]
    tifffile.imwrite(path, pixels, metadata=None, extratags=tags)
    return path


def cut(path: Path, **preparation: object) -> tuple[Crop, tuple[str, ...]]:
    with open_micrograph(path) as micrograph:
        material = find_material(micrograph, Preparation.model_validate(preparation))
        return material.crop, material.notices


@pytest.mark.parametrize("tag", [34680, 34682])
def test_fei_states_the_picture_without_its_bar(tmp_path: Path, tag: int) -> None:
    path = written(tmp_path / "a.tif", tag, FEI.format(WIDTH, HEIGHT, BAR))
    crop, notices = cut(path)
    assert crop == Crop(bottom_px=BAR)
    assert notices == (
        f"the {BAR} rows at the bottom are a data bar, by FEI tag {tag} (PrivateFei.DatabarHeight): they are not measured. "
        f"`crop: {{bottom_px: {BAR}}}` in domain.yaml states it",
    )
    assert cut(path, keep_data_bar=True) == (Crop(), ())
    assert cut(path, crop={"bottom_px": BAR}) == (Crop(bottom_px=BAR), ())
    assert cut(path, crop={"bottom_px": BAR + 3}) == (Crop(bottom_px=BAR + 3), ())
    crop, notices = cut(path, crop={"bottom_px": BAR - 10, "left_px": 4})
    assert crop == Crop(bottom_px=BAR, left_px=4)
    assert "the 10 rows at the bottom" in notices[0] and f"bottom_px: {BAR}}}" in notices[0]
    assert cut(written(tmp_path / "b.tif", tag, FEI.format(WIDTH, HEIGHT, "")))[0] == Crop(bottom_px=BAR)


@pytest.mark.parametrize(
    "text",
    [
        FEI.format(WIDTH, HEIGHT + BAR, BAR),  # the bar was cut off, and the tag stayed
        FEI.format(2 * WIDTH, HEIGHT, BAR),  # the tag of another picture
        FEI.format(WIDTH, 10, BAR),
        FEI.format(WIDTH, 10 * HEIGHT, 0),
        FEI.format("x", "y", "z"),
    ],
)
def test_a_tag_that_does_not_fit_cuts_no_material(tmp_path: Path, text: str) -> None:
    assert cut(written(tmp_path / "a.tif", 34682, text)) == (Crop(), ())


def test_a_height_alone_counts_where_the_picture_shows_a_bar(tmp_path: Path) -> None:
    text = FEI.format(WIDTH, HEIGHT + BAR, BAR)
    crop, notices = cut(written(tmp_path / "a.tif", 34682, text, SHOWN))
    assert crop == Crop(bottom_px=BAR) and "FEI tag 34682 (PrivateFei.DatabarHeight)" in notices[0]


def test_zeiss_states_the_store_resolution(tmp_path: Path) -> None:
    text = "0\r\nDP_IMAGE_STORE\r\nStore resolution = {} * {}\r\nAP_WD\r\nWD = 4.1 mm\r\n"
    crop, notices = cut(written(tmp_path / "a.tif", 34118, text.format(WIDTH, HEIGHT)))
    assert crop == Crop(bottom_px=BAR) and "Zeiss tag 34118 (Store resolution)" in notices[0]
    assert cut(written(tmp_path / "b.tif", 34118, text.format(WIDTH, HEIGHT + BAR))) == (Crop(), ())


def test_tescan_states_the_height_of_its_strip(tmp_path: Path) -> None:
    text = f"[MAIN]\r\nImageStripSize={BAR}\r\n"
    assert cut(written(tmp_path / "a.tif", 50431, text, SHOWN))[0] == Crop(bottom_px=BAR)
    assert cut(written(tmp_path / "b.tif", 50431, text)) == (Crop(), ())
    path = written(tmp_path / "c.tif", pixels=SHOWN)
    path.with_suffix(".hdr").write_text(text)
    assert "c.hdr of TESCAN (ImageStripSize)" in cut(path)[1][0]


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (f"$CM_FORMAT JEOL\r\n$CM_FULL_SIZE {WIDTH} {HEIGHT}\r\n", "a.txt of JEOL (CM_FULL_SIZE)"),
        (f"[SemImageFile]\r\nDataSize={WIDTH}x{HEIGHT}\r\n", "a.txt of Hitachi (DataSize)"),
    ],
)
def test_texts_beside_the_picture(tmp_path: Path, text: str, source: str) -> None:
    path = written(tmp_path / "a.tif")
    path.with_suffix(".txt").write_text(text)
    with open_micrograph(path) as micrograph:
        assert micrograph.data_bar == StatedBar(BAR, source, True)
    assert cut(path)[0] == Crop(bottom_px=BAR)
    written(path, pixels=PLAIN[:HEIGHT])
    assert cut(path) == (Crop(), ())


def test_bars_of_the_picture_at_both_edges(tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", pixels=np.vstack([line_of_text(WIDTH, 255, 0, 30), SHOWN]))
    crop, notices = cut(path)
    assert crop == Crop(top_px=30, bottom_px=BAR)
    assert sorted(notices) == [
        f"the {rows} rows at the {edge} are a data bar, found in the picture (one grey value with text): they are not "
        f"measured. `crop: {{{edge}_px: {rows}}}` in domain.yaml states it"
        for rows, edge in ((30, "top"), (BAR, "bottom"))
    ]


def test_a_coloured_bar_is_cut_off_before_the_colours_are_looked_at(tmp_path: Path) -> None:
    pixels = np.dstack([SHOWN] * 3)
    pixels[HEIGHT:, :, 2] //= 2
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb", metadata=None)
    assert cut(tmp_path / "a.tif")[0] == Crop(bottom_px=BAR)


def test_what_may_be_a_bar_is_told_with_the_crop_to_give(tmp_path: Path) -> None:
    dense = np.zeros((24, WIDTH), np.uint8)
    import cv2

    cv2.putText(dense, "many words 0123456789 and numbers 0123456789 mm kV", (0, 17), 0, 0.5, 255, 1, cv2.LINE_AA)
    path = written(tmp_path / "a.tif", pixels=np.vstack([noise(HEIGHT, WIDTH), dense]))
    crop, notices = cut(path, crop={"top_px": 5})
    assert crop == Crop(top_px=5)
    assert notices == (
        "the 24 rows at the bottom may be a data bar, found in the picture (one grey value with text): they are measured. "
        "Remedy, if they are one: --crop bottom=24, or `crop: {bottom_px: 24}` in domain.yaml",
    )
