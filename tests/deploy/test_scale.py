"""What a report says about the scale of its fields."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from microseg import load_engine, segment_folder
from microseg.core.errors import FieldError, InputError
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange, Preparation
from microseg.deploy.report.reader import Report
from tests.chain import microseg
from tests.core.samples import noise
from tests.engines import rewrite_manifest, write_threshold_engine

JEOL = "$CM_FULL_SIZE 60 40\n$$SM_MICRON_BAR 10\n$$SM_MICRON_MARKER 1um\n"


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    """Trained on pixels of 0.1 um."""
    domain = DomainEntry(name="sem", preparation=Preparation(pixel_size_um=0.1))
    return write_threshold_engine(tmp_path / "e.onnx", domains=[domain], grid=Grid(pixel_size_um=0.1))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`stated.tif` states 0.1 um, `silent.tif` nothing."""
    path = tmp_path / "lot"
    path.mkdir()
    stated(path / "stated.tif", 0.1)
    tifffile.imwrite(path / "silent.tif", picture(), metadata=None)
    return path


def picture() -> NDArray[np.uint8]:
    return noise(40, 60)


def stated(path: Path, across_um: float, down_um: float | None = None) -> None:
    resolution = (1 / across_um, 1 / (down_um or across_um))
    tifffile.imwrite(path, picture(), imagej=True, resolution=resolution, metadata={"unit": "um"})


def rows(report: Report) -> dict[str, dict[str, str]]:
    with (report.path / "fields.csv").open(encoding="utf-8-sig", newline="") as stream:
        return {row["field"]: row for row in csv.DictReader(stream)}


def page(report: Report) -> str:
    return (report.path / "report.html").read_text(encoding="utf-8")


def measured(folder: Path, engine: Path, **options: Any) -> Report:
    return segment_folder(folder, engine=engine, out=folder.parent / "report", **options)


def test_an_assumed_size_is_never_printed_as_the_fields(folder: Path, engine: Path) -> None:
    outcome = microseg("segment", folder, "--engine", engine, "--out", folder.parent / "report")
    report = measured(folder, engine)
    row = rows(report)["silent.tif"]
    assert (row["pixel_size_um"], row["pixel_height_um"], row["area_um2"]) == ("", "", "")
    assert row["pixel_size_source"] == "assumed from the training images"
    assert "nothing states its pixel size" in row["notices"]
    assert rows(report)["stated.tif"]["pixel_size_source"] == "ImageJ (pixels per µm)"
    assert report.summary.pixel_size_sources == {"ImageJ (pixels per µm)": 1, "assumed from the training images": 1}
    assert report.summary.area_um2 is None
    (notice,) = report.summary.field_notices
    assert (notice.kind, notice.fields) == ("pixel size", ["silent.tif"])
    assert "note: pixel size, 1 field (silent.tif): nothing states its pixel size" in outcome.out
    assert "Pixel size: assumed from the training images (1 field), ImageJ (pixels per µm) (1 field)" in outcome.out
    text = page(report)
    assert text.count("µm/px") == 1 and "0.1 µm/px (ImageJ (pixels per µm)) · 24 µm²" in " ".join(text.split())
    assert "pixel size: assumed from the training images" in text


def test_an_assumption_that_is_accepted_needs_no_notice(folder: Path, engine: Path) -> None:
    report = measured(folder, engine, assume_engine_scale=True)
    row = rows(report)["silent.tif"]
    assert (row["pixel_size_um"], row["area_um2"], row["notices"]) == ("", "", "")
    assert row["pixel_size_source"] == "assumed from the training images"
    assert report.summary.field_notices == []
    assert "--assume-engine-scale accepts an assumed one" in page(report)
    with pytest.raises(InputError, match="assume_engine_scale: true there, false now"):
        measured(folder, engine)


def test_a_size_that_is_required(folder: Path, engine: Path) -> None:
    report = measured(folder, engine, require_scale=True)
    assert [failed.field for failed in report.summary.failed] == ["silent.tif"]
    assert "silent.tif: states no pixel size, and --require-scale asks for one" in report.summary.failed[0].reason
    with pytest.raises(InputError, match="exclude each other"):
        measured(folder, engine, require_scale=True, assume_engine_scale=True)


def test_sizes_of_single_fields(folder: Path, engine: Path) -> None:
    (folder / "domain.yaml").write_text("pixel_sizes: {silent: 0.2, stated.tif: 0.05}\n", encoding="utf-8")
    report = measured(folder, engine)
    found = {name: (row["pixel_size_um"], row["pixel_size_source"]) for name, row in rows(report).items()}
    assert found == {"silent.tif": ("0.2", "domain.yaml"), "stated.tif": ("0.05", "domain.yaml")}
    assert "the domain.yaml states a pixel of 0.05 um, the file 0.1 um" in rows(report)["stated.tif"]["notices"]
    assert json.loads((report.path / "settings.json").read_text())["pixel_sizes"] == {
        "silent.tif": 0.2,
        "stated.tif": 0.05,
    }
    (folder / "domain.yaml").write_text("pixel_sizes: {silent: 0.3, stated.tif: 0.05}\n", encoding="utf-8")
    with pytest.raises(InputError, match="pixel_sizes"):
        measured(folder, engine)
    assert (
        rows(segment_folder(folder, engine=engine, out=folder.parent / "line", pixel_size_um=0.1))["silent.tif"][
            "pixel_size_source"
        ]
        == "command line"
    )


def test_sizes_of_a_domain_file_beside_the_input(folder: Path, engine: Path) -> None:
    described = folder.parent / "domain.yaml"
    described.write_text("pixel_sizes: {lot/silent.tif: 0.2}\n", encoding="utf-8")
    assert rows(measured(folder, engine))["silent.tif"]["pixel_size_um"] == "0.2"
    described.write_text("pixel_sizes: {lot/silenc.tif: 0.2}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"no image has the name 'lot/silenc\.tif'"):
        measured(folder, engine)


def test_a_field_far_beyond_the_training_needs_force(folder: Path, engine: Path) -> None:
    stated(folder / "stated.tif", 0.61)
    report = measured(folder, engine)
    (failed,) = report.summary.failed
    assert "stated.tif: its pixel size of 0.61 um (ImageJ (pixels per µm)) is 6.1 times beyond" in failed.reason
    forced = segment_folder(folder, engine=engine, out=folder.parent / "forced", force_scale=True)
    assert forced.summary.failed == []
    assert "6.1 times beyond" in rows(forced)["stated.tif"]["notices"]
    with load_engine(engine) as opened:
        with pytest.raises(FieldError, match="force_scale=True"):
            opened.predict(folder / "stated.tif")
        assert "6.1 times beyond" in opened.predict(folder / "stated.tif", force_scale=True).notices[0]
        with pytest.raises(FieldError, match="require_scale=True"):
            opened.predict(picture(), require_scale=True)
        found = opened.predict(picture(), assume_engine_scale=True)
        assert (found.pixel_size_um, found.area_um2, found.notices) == (None, None, ())
        assert found.pixel_size_source == "assumed from the training images"


def test_what_the_manifest_says_of_the_training_counts(folder: Path, engine: Path) -> None:
    wide = rewrite_manifest(
        engine, engine.with_name("wide.onnx"), trained_pixel_sizes=PixelSizeRange(smallest_um=0.05, largest_um=0.5)
    )
    stated(folder / "stated.tif", 0.61)
    report = measured(folder, wide)
    assert report.summary.failed == []
    assert rows(report)["stated.tif"]["notices"] == ""
    assert "native pixels of 0.05 to 0.5 um" in microseg("inspect", wide).out


def test_area_of_oblong_pixels_is_that_of_both_edges(folder: Path, engine: Path) -> None:
    stated(folder / "stated.tif", 0.1, 0.15)
    row = rows(measured(folder, engine))["stated.tif"]
    assert (row["pixel_size_um"], row["pixel_height_um"]) == ("0.1", "0.15")
    assert float(row["area_um2"]) == pytest.approx(40 * 60 * 0.1 * 0.15)
    assert "its pixels are not square (0.1 x 0.15 um" in row["notices"]


def test_a_text_beside_a_field_that_appears_later_counts(folder: Path, engine: Path) -> None:
    assert measured(folder, engine).summary.run.fields_resumed == 0
    assert measured(folder, engine).summary.run.fields_resumed == 2
    (folder / "silent.txt").write_text(JEOL, encoding="utf-8")
    (folder / "stated.txt").write_text("operator: Meier\n", encoding="utf-8")
    report = measured(folder, engine)
    assert report.summary.run.fields_resumed == 1
    assert any("Passed over: 1 .txt (no images)." in notice for notice in report.summary.notices)
    assert rows(report)["silent.tif"]["pixel_size_source"] == "silent.txt of JEOL (SM_MICRON_MARKER)"
    assert report.summary.area_um2 == pytest.approx(48.0)


def test_native_pixels_have_no_size(folder: Path, tmp_path: Path) -> None:
    report = measured(folder, write_threshold_engine(tmp_path / "native.onnx"))
    assert rows(report)["silent.tif"]["pixel_size_source"] == "none (native pixels)"
    assert "pixel size: none (native pixels)" in page(report)
