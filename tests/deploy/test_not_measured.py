"""Pixels that show no material are in no fraction: through reading, statistics, network, counting, mask, overlay and tables."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.checking import check_domain
from microseg.core.domains.domain import load_domain, prepared_and_labels
from microseg.core.errors import FieldError
from microseg.core.schemas.preparation import Crop, Grid
from microseg.deploy.api import load_engine
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.core.material.bars import line_of_text
from tests.deploy.conftest import micrograph
from tests.engines import write_threshold_engine

GREY = micrograph(90, 120, 5)
OUTSIDE = np.zeros(GREY.shape, bool)
OUTSIDE[:20, 70:] = OUTSIDE[30:, :25] = OUTSIDE[85:] = True
BESIDE = cv2.dilate(OUTSIDE.astype(np.uint8), np.ones((7, 7))) > 0
NOTICE = "27.55 % of the pixels are transparent: they are not measured"


def save(path: Path, hidden: Any = 0) -> Path:
    grey = np.where(OUTSIDE, hidden, GREY).astype(np.uint8)
    Image.fromarray(np.dstack([grey, np.where(OUTSIDE, 0, 255).astype(np.uint8)]), mode="LA").save(path)
    return path


def rows_of(report: Path) -> list[dict[str, str]]:
    with (report / "fields.csv").open(newline="", encoding="utf-8-sig") as stream:
        return list(csv.DictReader(stream))


def test_what_is_transparent_is_in_no_count(tmp_path: Path, tiny_engine: Path) -> None:
    assert OUTSIDE.sum() == 2975
    (tmp_path / "in").mkdir()
    rng = np.random.default_rng(0)
    for name, hidden in (("black", 0), ("white", 255), ("noise", rng.integers(0, 256, GREY.shape))):
        save(tmp_path / "in" / f"{name}.png", hidden)
    Image.fromarray(GREY).save(tmp_path / "in" / "whole.png")
    result = segment(SegmentOptions(tmp_path / "in", tiny_engine))
    masks = {path.stem: np.asarray(Image.open(path)) for path in (result.report / "masks").iterdir()}
    whole = masks.pop("whole.png")
    assert not (whole == 255).any()
    for mask in masks.values():
        assert np.array_equal(mask == 255, OUTSIDE)
        assert np.array_equal(mask[~BESIDE], whole[~BESIDE])
        assert np.array_equal(mask, masks["black.png"])
    inside = int((~OUTSIDE).sum())
    for row in rows_of(result.report):
        if row["field"] == "whole.png":
            assert (row["not_measured_px"], row["not_measured"], row["notices"]) == ("0", "", "")
            continue
        assert int(row["measured_px"]) == inside and int(row["not_measured_px"]) == OUTSIDE.sum()
        assert row["not_measured"] == f"transparent: {OUTSIDE.sum()} px"
        assert float(row["fraction_bainite"]) == np.mean(masks[row["field"]][~OUTSIDE] == 1)
        assert float(row["fraction_ferrite"]) + float(row["fraction_bainite"]) == pytest.approx(1)
        assert NOTICE in row["notices"]
    assert NOTICE in (result.report / "report.html").read_text(encoding="utf-8")
    overlay = np.asarray(Image.open(result.report / "overlays" / "white.png.jpg")).astype(int)
    assert np.abs(overlay[:12, 90:] - overlay[:12, 90:, :1]).max() < 12  # no colour
    assert overlay[:12, 90:].min() > 150


@pytest.mark.parametrize("grid", [Grid(), Grid(scale=0.5), Grid(scale=1.5)], ids=str)
def test_arrays_and_files_agree_on_every_grid(tmp_path: Path, grid: Grid) -> None:
    engine = write_threshold_engine(tmp_path / "engine.onnx", grid=grid)
    with load_engine(engine) as opened:
        of_file = opened.predict(save(tmp_path / "a.png"))
        of_array = opened.predict(np.asarray(Image.open(tmp_path / "a.png")))
        for found in (of_file, of_array):
            assert np.array_equal(found.labels == 255, OUTSIDE)
            assert all(np.array_equal(vote == 255, OUTSIDE) for vote in found.votes)
            assert found.measured_px == (~OUTSIDE).sum() and NOTICE in found.notices
            assert found.fractions["bainite"] == np.mean(found.labels[~OUTSIDE] == 1)
            assert np.array_equal(np.isnan(found.probability).any(axis=0), OUTSIDE)
        assert np.array_equal(of_file.labels, of_array.labels)


def statistics_of(grey: NDArray[Any], alpha: NDArray[Any], engine: Path) -> NDArray[np.uint8]:
    with load_engine(engine) as opened:
        return opened.predict(np.dstack([grey, alpha])).labels


def test_hidden_values_are_in_no_statistics(tiny_engine: Path) -> None:
    grey = GREY.astype(np.uint16) * 16  # 12 bits
    alpha = np.where(OUTSIDE, 0, 65535).astype(np.uint16)
    wanted = statistics_of(np.where(OUTSIDE, 0, grey), alpha, tiny_engine)
    assert np.array_equal(statistics_of(np.where(OUTSIDE, 65535, grey), alpha, tiny_engine), wanted)
    unit = grey.astype(np.float32)
    alpha = np.where(OUTSIDE, 0, 1).astype(np.float32)
    wanted = statistics_of(np.where(OUTSIDE, 0, unit), alpha, tiny_engine)
    assert np.array_equal(statistics_of(np.where(OUTSIDE, np.nan, unit), alpha, tiny_engine), wanted)


def test_nothing_to_measure_and_one_grey_value_are_told_apart(tiny_engine: Path) -> None:
    with load_engine(tiny_engine) as opened:
        with pytest.raises(FieldError, match="every pixel is transparent: nothing is left to measure"):
            opened.predict(np.dstack([GREY, np.zeros_like(GREY)]))
        visible = np.where(OUTSIDE, GREY, 40).astype(np.uint8)
        with pytest.raises(FieldError, match="every pixel is 40: there is nothing to measure"):
            opened.predict(np.dstack([visible, np.where(OUTSIDE, 0, 255).astype(np.uint8)]))


def test_training_and_check_do_not_see_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "masks").mkdir(exist_ok=True)
        save(tmp_path / "images" / f"{name}.png")
        Image.fromarray((GREY > 100).astype(np.uint8)).save(tmp_path / "masks" / f"{name}.png")
    domain = load_domain(tmp_path)
    _, labels = prepared_and_labels(domain.fields[0], domain, Grid())
    assert np.array_equal(labels, np.where(OUTSIDE, 255, GREY > 100))
    found = check_domain(domain, 2)
    assert found.problems == () and f"2 fields (a.png ...): {NOTICE}" in found.notices
    assert found.pixels[-1] == 2 * OUTSIDE.sum()


def test_padding_is_left_out_unless_it_is_kept(tmp_path: Path, tiny_engine: Path) -> None:
    grey = np.zeros((300, 400), np.uint8)
    grey[20:, 30:] = micrograph(280, 370, 6)
    grey[:150, 200:] = micrograph(150, 200, 7)
    outside = np.zeros(grey.shape, bool)
    outside[:20, :200] = outside[:, :30] = True
    (tmp_path / "in").mkdir()
    Image.fromarray(grey).save(tmp_path / "in" / "a.png")
    left_out = segment(SegmentOptions(tmp_path / "in", tiny_engine, tmp_path / "out"))
    (row,) = rows_of(left_out.report)
    mask = np.asarray(Image.open(left_out.report / row["mask"]))
    assert ((mask == 255) ^ outside).sum() <= 2
    assert row["not_measured"] == f"padding: {(mask == 255).sum()} px"
    assert "padding: they are not measured" in row["notices"]
    kept = segment(SegmentOptions(tmp_path / "in", tiny_engine, tmp_path / "kept", keep_padding=True))
    (row,) = rows_of(kept.report)
    assert int(row["measured_px"]) == grey.size and "padding" not in row["notices"]
    assert kept.summary["settings"]["preparation"]["keep_padding"] is True
    cropped = segment(SegmentOptions(tmp_path / "in", tiny_engine, tmp_path / "cropped", crop=Crop(top_px=10)))
    (row,) = rows_of(cropped.report)
    assert int(row["measured_px"]) + int(row["not_measured_px"]) == 290 * 400
    again = np.asarray(Image.open(cropped.report / row["mask"]))
    assert np.array_equal(again[10:] == 255, mask[10:] == 255) and (again[:10] == 255).all()
    (tmp_path / "domain").mkdir()
    Image.fromarray(grey).save(tmp_path / "domain" / "a.png")
    (tmp_path / "domain" / "domain.yaml").write_text("keep_padding: true\n")
    by_file = segment(SegmentOptions(tmp_path / "domain", tiny_engine))
    assert int(rows_of(by_file.report)[0]["measured_px"]) == grey.size
    with load_engine(tiny_engine) as opened:
        assert np.array_equal(opened.predict(grey).labels, mask)
        assert opened.predict(grey, keep_padding=True).measured_px == grey.size


def test_a_data_bar_changes_nothing(tmp_path: Path, tiny_engine: Path) -> None:
    (tmp_path / "in").mkdir()
    grey, bar = micrograph(200, 260, 7), line_of_text(260)
    for name, pixels in (("with", np.vstack([grey, bar])), ("without", grey)):
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.png")
    result = segment(SegmentOptions(tmp_path / "in", tiny_engine))
    found, plain = rows_of(result.report)
    masks = [np.asarray(Image.open(result.report / row["mask"])) for row in (found, plain)]
    assert np.array_equal(masks[0], np.vstack([masks[1], np.full(bar.shape, 255)]))
    assert (found["measured_px"], found["not_measured_px"]) == (plain["measured_px"], "0")
    assert found["fraction_bainite"] == plain["fraction_bainite"]
    assert "48 rows at the bottom are a data bar, found in the picture" in found["notices"] and not plain["notices"]
    overlays = [np.asarray(Image.open(result.report / row["overlay"])).astype(int) for row in (found, plain)]
    assert [overlay.shape[:2] for overlay in overlays] == [(248, 260), (200, 260)]
    assert np.abs(overlays[0][:184] - overlays[1][:184]).max() <= 8  # JPEG
    drawn = overlays[0][208:]
    assert drawn.min() > 130 and drawn.max() > 240 and np.abs(drawn - drawn[..., :1]).max() < 12  # pale, with its text
    legend = "What is pale in an overlay is not measured."
    assert legend in (result.report / "report.html").read_text(encoding="utf-8")
    kept = segment(SegmentOptions(tmp_path / "in", tiny_engine, tmp_path / "kept", keep_data_bar=True))
    assert legend not in (kept.report / "report.html").read_text(encoding="utf-8")
    assert rows_of(kept.report)[0]["measured_px"] == str(248 * 260)
    with load_engine(tiny_engine) as opened:
        assert np.array_equal(opened.predict(np.vstack([grey, bar])).labels, masks[0])


def test_training_and_check_see_no_data_bar(tmp_path: Path) -> None:
    grey, bar = micrograph(200, 260, 7), line_of_text(260)
    shown = np.vstack([grey, bar])
    for name in ("a", "b"):
        for folder, pixels in (("images", shown), ("masks", (shown > 100).astype(np.uint8))):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / folder / f"{name}.png")
    domain = load_domain(tmp_path)
    image, labels = prepared_and_labels(domain.fields[0], domain, Grid())
    assert np.array_equal(image, grey) and np.array_equal(labels, grey > 100)
    found = check_domain(domain, 2)
    assert found.problems == () and found.pixels == (2 * (grey <= 100).sum(), 2 * (grey > 100).sum(), 0)
    assert any("`crop: {bottom_px: 48}` in domain.yaml" in text for text in found.notices)
