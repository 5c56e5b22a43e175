"""`--roi` and `artefacts`: what is not measured because a person or the engine says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roifile
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import InputError
from microseg.deploy.report.reader import read_report
from microseg.deploy.report.table import read_rows
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.engines import write_threshold_engine

Wafer = Callable[..., Path]
BOX = np.zeros((90, 120), bool)
BOX[10:50, 20:100] = True


def _mask(path: Path, inside: NDArray[np.bool_]) -> Path:
    Image.fromarray(inside.astype(np.uint8) * 255).save(path)
    return path


def _geojson(path: Path, *rings: list[list[float]]) -> Path:
    geometry = {"type": "Polygon", "coordinates": [[*ring, ring[0]] for ring in rings]}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": geometry}]}))
    return path


def _corners(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def _rows(report: Path) -> dict[str, dict[str, str]]:
    return {row["field"]: row for row in read_rows(report / "fields.csv")}


def _labels(report: Path, name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(read_report(report).mask_path(name)))


@pytest.mark.parametrize("kind", ["mask.png", "roi.geojson", "roi.json", "box.roi", "box.zip"])
def test_one_region_for_all_fields(wafer: Wafer, tiny_engine: Path, tmp_path: Path, kind: str) -> None:
    folder = wafer(2)
    path = tmp_path / kind
    match path.suffix:
        case ".png":
            _mask(path, BOX)
        case ".geojson" | ".json":
            _geojson(path, _corners(20, 10, 100, 50))
        case _:
            roifile.roiwrite(path, roifile.ImagejRoi.frompoints(np.array(_corners(20, 10, 100, 50))))
    whole = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "whole")).report
    part = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "part", roi=path)).report
    for name, row in _rows(part).items():
        labels, all_labels = _labels(part, name), _labels(whole, name)
        assert np.array_equal(labels != 255, BOX)
        assert np.array_equal(labels[BOX], all_labels[BOX])  # the network sees what lies around the region
        assert float(row["fraction_bainite"]) == np.mean(all_labels[BOX] == 1)
        assert (row["measured_px"], row["not_measured"]) == ("3200", "outside of the region: 7600 px")
        assert "outside of the region" in row["notices"]


def test_holes_of_a_region_are_outside(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    path = _geojson(tmp_path / "a.geojson", _corners(20, 10, 100, 50), _corners(30, 20, 40, 30))
    report = segment(SegmentOptions(wafer(1), tiny_engine, out=tmp_path / "r", roi=path)).report
    (row,) = _rows(report).values()
    assert row["measured_px"] == "3100"


def test_a_folder_with_a_region_for_each_stem(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    folder, regions = wafer(2), tmp_path / "regions"
    regions.mkdir()
    _mask(regions / "field0.png", BOX)
    _geojson(regions / "field1.png.geojson", _corners(0, 0, 10, 10))
    report = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "r", roi=regions)).report
    assert [row["measured_px"] for row in _rows(report).values()] == ["3200", "100"]
    _geojson(regions / "field1.png.geojson", _corners(0, 0, 20, 10))
    with pytest.raises(InputError, match="other settings"):
        segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "r", roi=regions))
    (regions / "field0.png").unlink()
    with pytest.raises(InputError, match=r"has no file for field0\.png"):
        segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "s", roi=regions))


def test_regions_that_do_not_fit_fail_their_fields(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    folder = wafer(1)
    for name, path, found in (
        ("size", _mask(tmp_path / "small.png", BOX[:40]), "120 x 40 px"),
        ("empty", _mask(tmp_path / "none.png", np.zeros_like(BOX)), "covers no measured pixel"),
    ):
        (failed,) = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / name, roi=path)).summary["failed"]
        assert found in failed["reason"]
    (tmp_path / "a.txt").write_text("x")
    for wrong, found in ((tmp_path / "gone.roi", "does not exist"), (tmp_path / "a.txt", "is no region")):
        with pytest.raises(InputError, match=found):
            segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "r", roi=wrong))


@pytest.fixture
def three_phases(tmp_path: Path) -> Path:
    return write_threshold_engine(
        tmp_path / "three.onnx", ((0.2, 0.5), (0.22, 0.5)), names=("pore", "ferrite", "bainite")
    )


def test_artefacts_leave_the_denominator(wafer: Wafer, three_phases: Path, tmp_path: Path) -> None:
    folder = wafer(2)
    plain = segment(SegmentOptions(folder, three_phases, out=tmp_path / "plain")).report
    (folder / "domain.yaml").write_text("artefacts: pore\n")
    result = segment(SegmentOptions(folder, three_phases, out=tmp_path / "r"))
    for name, row in _rows(result.report).items():
        labels = _labels(result.report, name)
        assert np.array_equal(labels, _labels(plain, name))
        pores = int((labels == 0).sum())
        assert pores and row["fraction_pore"] == ""
        assert row["not_measured"] == f"artefacts (pore): {pores} px"
        assert float(row["fraction_ferrite"]) == pytest.approx((labels == 1).sum() / (labels != 0).sum())
    summary: dict[str, Any] = result.summary
    assert summary["phases"]["pore"]["mean"] is None and summary["phases"]["ferrite"]["n"] == 2
    assert any(text.startswith("Artefacts leave the denominator") for text in summary["notices"])
    for text, found in (
        ("artefacts: [scratch]", "'scratch' is none"),
        ("artefacts: [pore, ferrite, bainite]", "every phase"),
    ):
        (folder / "domain.yaml").write_text(text)
        with pytest.raises(InputError, match=found):
            segment(SegmentOptions(folder, three_phases, out=tmp_path / "s"))
