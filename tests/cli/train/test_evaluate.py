"""`microseg evaluate` as typed, on a run and on an engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import tifffile
import yaml

from tests.chain import microseg


def test_a_run_on_new_fields(trained: Path, unseen: Path, source: Path, tmp_path: Path) -> None:
    told = tmp_path / "sub" / "evaluation.json"
    outcome = microseg("evaluate", trained, unseen, "--source", source, "--json", told)
    assert outcome.status == 0, outcome.err
    for part in ("IoU ferrite", "mIoU", "fold 0 (n = 2)", "bag", "Otsu (baseline)", "RDT:", "bootstrap"):
        assert part in outcome.out
    assert "seen in training" not in outcome.out
    assert "Pixel size: 0.0277 um (domain.yaml)" in outcome.out
    result = json.loads(told.read_text(encoding="utf-8"))
    assert list(result)[:3] == ["miou", "iou", "fractions"]
    assert set(result["fractions"]["ferrite"]) == {"true", "predicted", "error"}
    assert {"fields", "folds", "source_miou", "rdt"} <= set(result)
    assert [(field["pixel_size_um"], field["pixel_size_source"]) for field in result["fields"]] == [
        (0.0277, "domain.yaml")
    ] * 2
    assert result["rdt"] == pytest.approx((result["miou"] - result["source_miou"]) / result["source_miou"])
    assert sum(item["true"] for item in result["fractions"].values()) == pytest.approx(1)


def test_sizes_beyond_the_training_and_assumed_ones_are_told(exported: Path, unseen: Path, tmp_path: Path) -> None:
    domain = Path(shutil.copytree(unseen, tmp_path / "far"))
    described = yaml.safe_load((domain / "domain.yaml").read_text(encoding="utf-8"))
    (domain / "domain.yaml").write_text(yaml.safe_dump(described | {"pixel_size_um": 0.3}), encoding="utf-8")
    outcome = microseg("evaluate", exported, domain)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("is 6.5 times beyond those that the engine was trained on") == 2
    del described["pixel_size_um"]
    (domain / "domain.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    for path in (domain / "images").iterdir():
        tifffile.imwrite(path, tifffile.imread(path), metadata=None)
    outcome = microseg("evaluate", exported, domain, "--json", tmp_path / "told.json")
    assert "Pixel size: assumed from the training images" in outcome.out
    first = json.loads((tmp_path / "told.json").read_text(encoding="utf-8"))["fields"][0]
    assert (first["pixel_size_um"], first["pixel_size_source"]) == (None, "assumed from the training images")


def test_an_engine_says_what_it_was_trained_on(exported: Path, source: Path) -> None:
    outcome = microseg("evaluate", exported, source)
    assert outcome.status == 0, outcome.err
    assert outcome.out.count("(seen in training)") == 4
    assert "do not hold for new fields" in outcome.out


def test_a_narrow_terminal_gets_every_figure(trained: Path, unseen: Path) -> None:
    wide, narrow = (microseg("evaluate", trained, unseen, columns=columns).out for columns in (250, 20))
    figures = [word for line in wide.splitlines() if line.startswith("│") for word in line.split() if word[0].isdigit()]
    assert len(figures) > 20
    assert not [figure for figure in figures if figure not in narrow]
    assert "  IoU ferrite: " in narrow and "  ferrite % true/found: " in narrow and "│" not in narrow


def test_an_unknown_domain_name_exits_with_2(exported: Path, trained: Path, source: Path) -> None:
    for model in (exported, trained):
        outcome = microseg("evaluate", model, source, "--as", "lom")
        assert outcome.status == 2
        assert "knows no such domain. Remedy: one of 'synthetic-s'" in outcome.err


def test_a_file_that_is_no_engine_exits_with_2(source: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not onnx")
    outcome = microseg("evaluate", tmp_path / "a.onnx", source)
    assert outcome.status == 2
    assert "is no ONNX file" in outcome.err
