"""The drawn folder: which fields, which files, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from microseg.core.domains.domain import load_domain, read_labels
from microseg.core.errors import InputError
from microseg.deploy.audit.draw import DrawOptions, draw_audit
from microseg.deploy.audit.grid_page import grid_points
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.chain import microseg
from tests.deploy.audit.conftest import Lot


def test_the_folder_holds_the_drawn_files_and_their_predictions(lot: Lot) -> None:
    outcome = microseg(
        "audit",
        "draw",
        lot.report,
        "--n",
        5,
        "--seed",
        3,
        "--engine",
        lot.engine,
        "--images",
        lot.input,
        "--points",
        24,
    )
    assert outcome.status == 0, outcome.err
    assert "Drawn: 5 of 14 fields" in outcome.out
    out = lot.report.with_name("report-audit")
    draw = json.loads((lot.report / "audit" / "draw.json").read_text(encoding="utf-8"))
    names = {field["name"] for field in draw["fields"]}
    images = {path.relative_to(out / "images").as_posix() for path in (out / "images").rglob("*") if path.is_file()}
    assert images == names and len(names) == 5
    assert [path for path in out.rglob("images") if path.is_dir()] == [out / "images"]
    for source in (out, out / "qupath.yaml"):
        domain = load_domain(source)
        assert {field.name for field in domain.fields} == names
        field = domain.fields[0]
        mask = load_domain(out).fields[0]
        assert (read_labels(field, domain) == read_labels(mask, load_domain(out))).all()
    page = (out / "audit.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', page)
    assert found is not None
    content = json.loads(found[1])
    assert [len(field["points"]) for field in content["fields"]] == [24] * 5
    assert content["audit"] == draw["audit"]
    assert "http" not in page.replace("http-equiv", "")


def test_the_same_seed_draws_the_same_fields(lot: Lot, tmp_path: Path) -> None:
    found = [
        draw_audit(
            DrawOptions(lot.report, 4, 9, tmp_path / str(index), engine=lot.engine, images=lot.input)
        ).draw.fields
        for index in range(2)
    ]
    assert found[0] == found[1]


def test_each_section_gets_its_share(lot: Lot, tmp_path: Path) -> None:
    segment(SegmentOptions(lot.input, lot.engine, tmp_path / "sections"))
    with pytest.raises(InputError, match="--n 3: the report has 2 sections, and each takes 2 fields"):
        draw_audit(DrawOptions(tmp_path / "sections", 3))
    drawn = draw_audit(DrawOptions(tmp_path / "sections", 6))
    assert sorted(field.section for field in drawn.draw.fields) == ["s0"] * 3 + ["s1"] * 3


def test_what_is_not_there_is_named(lot: Lot, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished report"):
        draw_audit(DrawOptions(tmp_path))
    with pytest.raises(InputError, match="--images with the lot"):
        draw_audit(DrawOptions(lot.report, engine=lot.engine, images=tmp_path / "gone"))
    inside = DrawOptions(lot.report, out=lot.report / "x", engine=lot.engine, images=lot.input)
    with pytest.raises(InputError, match="lies inside the report"):
        draw_audit(inside)
    path = next((lot.input / "s0").iterdir())
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(InputError, match="is not the file that was measured"):
        draw_audit(DrawOptions(lot.report, 14, engine=lot.engine, images=lot.input))
    assert not lot.report.with_name("report-audit").exists()
    assert not (lot.report / "audit").exists()


def test_grid_points_lie_where_the_field_is_measured() -> None:
    rng = np.random.default_rng(1)
    whole = grid_points(np.ones((90, 120), np.bool_), 100, rng)
    assert len(whole) == 100
    xs, ys = (sorted({point[axis] for point in whole}) for axis in (0, 1))
    assert (len(xs), len(ys)) == (10, 10)
    assert np.diff(xs) == pytest.approx(12, abs=0.011) and np.diff(ys) == pytest.approx(9, abs=0.011)
    half = np.ones((90, 120), np.bool_)
    half[:, 60:] = False
    part = grid_points(half, 100, rng)
    assert 90 <= len(part) <= 110 and max(x for x, _ in part) < 60
    with pytest.raises(InputError, match="no point of the grid"):
        grid_points(np.zeros((9, 9), np.bool_), 10, rng)
