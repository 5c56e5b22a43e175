"""Which page and channel of a file is the micrograph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import FieldError
from microseg.core.images.image_file import stored_grid
from microseg.core.images.micrograph import open_micrograph
from microseg.core.images.pages import Selection
from tests.core.samples import noise

GREY = noise(128, 160)
SMALL = GREY[::8, ::8].copy()


def _pages(path: Path, *pages: tuple[NDArray[Any], dict[str, Any]]) -> Path:
    with tifffile.TiffWriter(path) as writer:
        for pixels, options in pages:
            writer.write(pixels, metadata=None, **options)
    return path


def _whole(path: Path, **selection: int) -> NDArray[Any]:
    with open_micrograph(path, Selection(**selection)) as micrograph:
        grid = stored_grid(path, selection.get("page"))
        assert (grid.height, grid.width) == (micrograph.height, micrograph.width)
        return micrograph.rows(0, micrograph.height)


@pytest.mark.parametrize(
    "pages",
    [
        ((SMALL, {"subfiletype": 1}), (GREY, {})),
        ((SMALL, {}), (GREY, {})),
        ((GREY, {}), (SMALL, {"subfiletype": 1})),
        ((GREY, {}), (GREY[::2, ::2], {"subfiletype": 1}), (SMALL, {"subfiletype": 1})),
        ((GREY // 2, {"subfiletype": 1}), (GREY, {})),
    ],
)
def test_thumbnails_and_reduced_pages_are_not_the_micrograph(
    tmp_path: Path, pages: tuple[tuple[NDArray[Any], dict[str, Any]], ...]
) -> None:
    path = _pages(tmp_path / "a.tif", *pages)
    assert np.array_equal(_whole(path), GREY)
    with open_micrograph(path) as micrograph:
        assert [notice.kind for notice in micrograph.notices] == ["page"]
    smallest = min(range(len(pages)), key=lambda index: pages[index][0].size)
    assert np.array_equal(_whole(path, page=smallest + 1), pages[smallest][0])


@pytest.mark.parametrize("stack", ["pages", "imagej"])
def test_several_pictures_are_refused_with_the_option_that_picks(tmp_path: Path, stack: str) -> None:
    several = np.stack([GREY, GREY[::-1], GREY[:, ::-1]])
    path = tmp_path / "a.tif"
    if stack == "imagej":
        tifffile.imwrite(path, several, imagej=True)
    else:
        _pages(path, *((page, {}) for page in several))
    with pytest.raises(FieldError, match=r"several pictures \(.*160 x 128 px.*Remedy: --page N, or `page: N`"):
        open_micrograph(path)
    for index, page in enumerate(several):
        assert np.array_equal(_whole(path, page=index + 1), page)
    with pytest.raises(FieldError, match="has 3 pages, and page 4 is asked for"):
        open_micrograph(path, Selection(page=4))


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [2, 3, 5])
def test_channels(tmp_path: Path, planar: str, channels: int) -> None:
    detectors = [noise(40, 50, seed=seed) for seed in range(channels)]
    stacked = np.stack(detectors, -1 if planar == "contig" else 0)
    tifffile.imwrite(tmp_path / "a.tif", stacked, photometric="minisblack", planarconfig=planar, metadata=None)
    if channels != 3:
        with pytest.raises(FieldError, match=rf"{channels} channels .*Remedy: --channel N"):
            open_micrograph(tmp_path / "a.tif")
    for index, detector in enumerate(detectors):
        assert np.array_equal(_whole(tmp_path / "a.tif", channel=index + 1), detector)
    with pytest.raises(FieldError, match=f"has {channels} channels, and channel 6 is asked for"):
        open_micrograph(tmp_path / "a.tif", Selection(channel=6))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp"])
def test_one_channel_of_a_colour_image(tmp_path: Path, name: str) -> None:
    colour = np.dstack([noise(40, 50, seed=seed) for seed in range(3)])
    Image.fromarray(colour).save(tmp_path / name)
    for channel in range(3):
        assert np.array_equal(_whole(tmp_path / name, channel=channel + 1), colour[..., channel])


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_a_single_grey_page_has_one_page_and_one_channel(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name)
    assert np.array_equal(_whole(tmp_path / name, page=1, channel=1), GREY)
    for wrong in ({"page": 2}, {"channel": 2}):
        with pytest.raises(FieldError, match=r"has 1 .* 2 is asked for"):
            open_micrograph(tmp_path / name, Selection(**wrong))
