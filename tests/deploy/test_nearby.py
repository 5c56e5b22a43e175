"""A domain.yaml one folder above or below the input gives its settings, and never its folders."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microseg.core.errors import InputError
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.deploy.conftest import micrograph

SETTINGS = "images: elsewhere\ncrop: {bottom_px: 20}\ninvert: true\npixel_size_um: 0.25\n"


def _lot(folder: Path, seed: int, *, inverted: bool, settings: str | None) -> Path:
    """`images/f.png` with a data bar of 20 rows; returns the folder of images."""
    (folder / "images").mkdir(parents=True)
    grey = micrograph(100, 120, seed)
    grey = 255 - grey if inverted else grey
    grey[80:] = np.arange(120) % 7
    Image.fromarray(grey).save(folder / "images" / "f.png")
    if settings:
        (folder / "domain.yaml").write_text(settings, encoding="utf-8")
    return folder / "images"


def _rows(path: Path, engine: Path, out: Path, **options: object) -> dict[str, dict[str, str]]:
    report = segment(SegmentOptions(path, engine, out=out, **options)).report  # type: ignore[arg-type]
    with (report / "fields.csv").open(encoding="utf-8-sig", newline="") as stream:
        return {row["field"]: row for row in csv.DictReader(stream)}


@pytest.mark.parametrize("below", [".", "f.png"])
def test_one_folder_above(tmp_path: Path, tiny_engine: Path, below: str) -> None:
    images = _lot(tmp_path / "lot", 1, inverted=True, settings=SETTINGS)
    straight = _lot(tmp_path / "straight", 1, inverted=False, settings=None)
    Image.open(straight / "f.png").crop((0, 0, 120, 80)).save(straight / "f.png")
    (row,) = _rows(images / below, tiny_engine, tmp_path / "report").values()
    (expected,) = _rows(straight, tiny_engine, tmp_path / "expected").values()
    assert row["fraction_bainite"] == expected["fraction_bainite"]
    assert (row["measured_px"], row["pixel_size_um"], row["pixel_size_source"]) == ("9600", "0.25", "domain.yaml")
    assert "settings of ../domain.yaml: cut off: 20 px at the bottom; inverted" in row["notices"]


def test_lots_that_are_measured_together_have_their_own(tmp_path: Path, tiny_engine: Path) -> None:
    _lot(tmp_path / "lots" / "A", 1, inverted=True, settings=SETTINGS)
    _lot(tmp_path / "lots" / "B", 2, inverted=False, settings="crop: {bottom_px: 20}\npixel_sizes: {f: 0.5}\n")
    _lot(tmp_path / "lots" / "C", 3, inverted=False, settings=None)
    rows = _rows(tmp_path / "lots", tiny_engine, tmp_path / "report")
    assert [(row["measured_px"], row["pixel_size_um"]) for row in rows.values()] == [
        ("9600", "0.25"), ("9600", "0.5"), ("12000", ""),
    ]  # fmt: skip
    for lot, images in (("A", "lots/A/images"), ("B", "lots/B/images")):
        (alone,) = _rows(tmp_path / images, tiny_engine, tmp_path / lot).values()
        assert rows[f"{lot}/images/f.png"]["fraction_bainite"] == alone["fraction_bainite"]
    assert "settings of A/domain.yaml" in rows["A/images/f.png"]["notices"]
    assert "settings of" not in rows["C/images/f.png"]["notices"]
    # The command line wins, and a report never mixes settings.
    forced = _rows(tmp_path / "lots", tiny_engine, tmp_path / "forced", invert=False, pixel_size_um=0.1)
    assert {row["pixel_size_um"] for row in forced.values()} == {"0.1"}
    assert "not inverted" in forced["A/images/f.png"]["notices"]
    (tmp_path / "lots" / "A" / "domain.yaml").write_text("invert: true\n", encoding="utf-8")
    with pytest.raises(InputError, match="has other settings"):
        segment(SegmentOptions(tmp_path / "lots", tiny_engine, out=tmp_path / "report"))


def test_the_nearest_wins_and_two_above_is_too_far(tmp_path: Path, tiny_engine: Path) -> None:
    images = _lot(tmp_path / "far" / "lot", 1, inverted=False, settings=None)
    (tmp_path / "far" / "domain.yaml").write_text("crop: {bottom_px: 50}\n", encoding="utf-8")
    (row,) = _rows(images, tiny_engine, tmp_path / "none").values()
    assert row["measured_px"] == "12000"
    (row,) = _rows(images.parent, tiny_engine, tmp_path / "above").values()
    assert row["measured_px"] == "6000"
    (images.parent / "domain.yaml").write_text("crop: {bottom_px: 20}\n", encoding="utf-8")
    (row,) = _rows(images, tiny_engine, tmp_path / "nearest").values()
    assert row["measured_px"] == "9600"


def test_a_broken_file_near_the_input_is_named(tmp_path: Path, tiny_engine: Path) -> None:
    images = _lot(tmp_path / "lot", 1, inverted=False, settings="crop: 64\n")
    with pytest.raises(InputError, match=r"lot/domain\.yaml:"):
        segment(SegmentOptions(images, tiny_engine, out=tmp_path / "report"))
