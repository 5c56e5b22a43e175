from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from microseg.core.runs import read_run
from microseg.synthetic.folder import write_domain
from tests.chain import microseg, tiny_domain, train


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("continued")
    train(tiny_domain(root / "s"), root / "run")
    write_domain(root / "t2", "t2", 2, 5, size_px=(180, 150))
    return root


def test_a_few_labels_continue_from_a_run_and_keep_what_it_knew(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "few"
    done = microseg("train", "supervised", place / "t2", "--init", place / "run", "--set", "steps=2", "--out", out)
    assert done.status == 0, done.err
    assert f"On the domain of {place / 'run'}" in done.out
    record, summary = read_run(out)
    assert record.continued_from == str(place / "run")
    assert [entry.name for entry in record.domains] == ["synthetic-s", "synthetic-t2"]
    assert len(record.fields) == 2 + 4
    assert summary.earlier_miou is not None
    scored = microseg("evaluate", out, place / "s", "--as", "synthetic-s", "--json", tmp_path / "s.json")
    assert scored.status == 0, scored.err
    folds = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))["folds"]["each"]
    assert [fold["fields"] for fold in folds] == [2, 2]  # each by the fold that has never seen it


def test_another_network_or_other_phases_are_refused(place: Path, tmp_path: Path) -> None:
    out = tmp_path / "few"
    other = microseg(
        "train", "supervised", place / "t2", "--init", place / "run",
        "--set", "network.decoder_channels=[16,8,8,8]", "--out", out,
    )  # fmt: skip
    assert other.status == 2 and "network" in other.err
    described = place / "t2" / "domain.yaml"
    content = yaml.safe_load(described.read_text(encoding="utf-8"))
    content["phases"][1]["name"] = "martensite"
    described.write_text(yaml.safe_dump(content), encoding="utf-8")
    named = microseg("train", "supervised", place / "t2", "--init", place / "run", "--out", out)
    assert named.status == 2 and "martensite" in named.err
    missing = microseg("train", "supervised", place / "t2", "--init", place / "nothing", "--out", out)
    assert missing.status == 2
    assert not out.exists()
