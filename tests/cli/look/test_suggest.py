from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from microseg import load_engine
from microseg.core.domains.domain import load_domain, read_labels
from tests.chain import microseg
from tests.core.labelling.committees import pictures


def test_an_engine_suggests_fields_and_check_reads_them(tiny_engine: Path, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "new", 4), tmp_path / "TODO"
    (folder / "broken.png").write_bytes(b"")
    done = microseg("suggest", tiny_engine, folder, "--n", 3, "--out", out, "--as", "dark", columns=80)
    assert done.status == 0, done.err
    record = json.loads((out / "suggest.json").read_text(encoding="utf-8"))
    assert len(record["fields"]) == 3
    for item in record["fields"]:
        assert f"{Path(item['image']).name}: {item['reason']}" in done.out
    assert "Cannot be read: " in done.out and "broken.png" in done.out
    assert f"Next: correct the masks in {out / 'masks'}" in done.out
    assert f"microseg train supervised {out} --init thresholds" in done.out
    assert max(len(line) for line in done.out.splitlines() if line.startswith(("┃", "│"))) <= 80
    # The masks are what the engine measures, prepared as the domain that was asked for.
    domain = load_domain(out)
    assert domain.preparation.invert
    with load_engine(tiny_engine) as engine:
        for item in domain.fields:
            found = engine.predict(folder / item.name, domain="dark")
            np.testing.assert_array_equal(read_labels(item, domain), found.labels)
            share = float(np.mean(found.votes[0] != found.votes[1]))
            (told,) = (each["disagreement"] for each in record["fields"] if each["field"] == item.name)
            assert told == share
    checked = microseg("check", out, "--folds", 3)
    assert checked.status == 0, checked.out
    assert microseg("check", out / "qupath.yaml", "--folds", 3).status == 0


def test_wrong_input_is_refused(tiny_engine: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "new", 2)
    for arguments, words in (
        ((tiny_engine, folder, "--as", "other"), "--as 'other': the engine knows no such domain"),
        ((tiny_engine, tmp_path / "nowhere"), "does not exist"),
        ((tmp_path / "none.onnx", folder), "none.onnx"),
        ((tiny_engine, folder, "--n", 0), "--n"),
    ):
        done = microseg("suggest", *arguments, "--out", tmp_path / "TODO")
        assert done.status == 2 and words in done.err, (words, done.err)
        assert not (tmp_path / "TODO").exists()


def test_a_run_suggests_what_its_engine_suggests(
    trained: Path, exported: Path, unseen: Path, source: Path, tmp_path: Path
) -> None:
    for model, out in ((trained, "RUN"), (exported, "ENGINE")):
        done = microseg("suggest", model, unseen, "--n", 5, "--out", tmp_path / out)
        assert done.status == 0, done.err
        assert "2 of the 5 that were asked for" in done.out
    records = [json.loads((tmp_path / out / "suggest.json").read_bytes()) for out in ("RUN", "ENGINE")]
    fields = [[(item["field"], round(item["distance"], 2)) for item in record["fields"]] for record in records]
    assert len(fields[0]) == 2 and fields[0] == fields[1]
    ours, theirs = (load_domain(tmp_path / out) for out in ("RUN", "ENGINE"))
    for one, other in zip(ours.fields, theirs.fields, strict=True):
        assert np.mean(read_labels(one, ours) != read_labels(other, theirs)) < 0.001
    # Its own fields are labelled already.
    done = microseg("suggest", trained, source, "--out", tmp_path / "OWN")
    assert done.status == 2 and "labelled already" in done.err and not (tmp_path / "OWN").exists()
