"""A field list in shards: each field once, equal to one process, whatever was measured twice or killed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.storage.folder import Folder
from microseg.deploy.archive.merging.compact import text_hashes
from microseg.deploy.archive.merging.merge import merge
from microseg.deploy.archive.merging.table import ResultTable
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.chain import microseg
from tests.deploy.archive.conftest import NAMES
from tests.deploy.conftest import micrograph
from tests.engines import write_threshold_engine

# What differs between two equal runs.
OWN = ("created", "run", "engine_calls", "input")


def same(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in OWN}


def shard(listed: Path, engine: Path, out: Path, part: str | None, **options: Any) -> dict[str, Any]:
    return segment(SegmentOptions(listed, engine, out, shard=part, **options)).summary


def rows_of(query: str) -> list[tuple[Any, ...]]:
    found = duckdb.sql(query)
    assert found is not None
    return found.fetchall()


def parts_of(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "fields").iterdir())


def test_shards_equal_one_process(archive: Path, listed: Path, tiny_engine: Path, tmp_path: Path) -> None:
    (archive / "b" / "100%.png").write_bytes(b"no picture")  # it fails in both
    shutil.copy(archive / "a" / "one two.png", archive / "b" / "again.png")
    assert microseg("list", archive, "--out", listed).status == 0
    one = segment(SegmentOptions(archive, tiny_engine, tmp_path / "one")).summary
    out = tmp_path / "many"
    done = [microseg("segment", listed, "--engine", tiny_engine, "--shard", f"{k}/3", "--out", out) for k in (1, 2, 3)]
    assert sorted(each.status for each in done) == [0, 0, 3] and "Shard 1/3" in done[0].out
    shard(listed, tiny_engine, out, "2/3")  # nothing is left of it
    before = parts_of(out)
    shard(listed, tiny_engine, out, "1/2")  # another cut takes what there is
    joined = microseg("merge", out, "--json", tmp_path / "summary.json")
    assert joined.status == 3 and "100%.png" in joined.err
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert same(summary) == same(one) == same(json.loads((tmp_path / "summary.json").read_text(encoding="utf-8")))
    # The failed field is tried again.
    assert len(before) in (3, 4) and len(parts_of(out)) == 1 and not list((out / "tmp").iterdir())
    assert same(merge(Folder(out))) == same(one)  # again, from the merged table
    for mask in (tmp_path / "one" / "masks").rglob("*.png"):
        beside = out / "masks" / mask.relative_to(tmp_path / "one" / "masks")
        assert beside.read_bytes() == mask.read_bytes()


def test_the_tables_are_read_as_they_are(archive: Path, listed: Path, tiny_engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    summary = shard(listed, tiny_engine, out, None)
    fields = pd.read_parquet(out / "fields")
    assert sorted(fields["field"]) == sorted(NAMES) and (fields["counted"] == "yes").all()
    ((mean, keys),) = rows_of(f"SELECT avg(fraction_bainite), count(DISTINCT key) FROM '{out}/fields/*.parquet'")
    assert mean == pytest.approx(summary["phases"]["bainite"]["mean"]) and keys == len(NAMES)
    sections = rows_of(f"SELECT section, phase, fraction FROM '{out}/sections.parquet'")
    assert {section for section, _, _ in sections} == {"a", "b", "lot"} == set(summary["sections"])
    row = fields.set_index("field").loc["a/one two.png"]
    mask = np.asarray(Image.open(out / row["mask"]))
    assert row["mask_sha256"] == hashlib.sha256(mask.tobytes()).hexdigest()
    assert row["fraction_bainite"] == (mask == 1).mean() and row["evidence_bainite"] == "none"
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "<b>.png" not in page and "&lt;b&gt;.png" in page and "Not validated" in page and len(page) < 20 << 20


@pytest.mark.parametrize("masks", ["none", "flagged"])
def test_masks_are_written_as_asked(listed: Path, tiny_engine: Path, tmp_path: Path, masks: str) -> None:
    out = tmp_path / "out"
    shard(listed, tiny_engine, out, "1/1", masks=masks)
    fields = pd.read_parquet(out / "fields")
    # The folds of the tiny engine differ on most fields.
    wanted = set() if masks == "none" else set(fields[fields["fold_std_bainite"] > 0.05]["field"])
    assert set(fields[fields["mask"].notna()]["field"]) == wanted and len(wanted) != len(NAMES)
    assert len(list((out / "masks").rglob("*.png"))) == len(list((out / "overlays").rglob("*.jpg"))) == len(wanted)
    assert not list((out / "tmp").iterdir()) and fields["mask_sha256"].nunique() == len(NAMES)


def test_a_killed_shard_leaves_whole_files_and_goes_on(archive: Path, tiny_engine: Path, tmp_path: Path) -> None:
    for index in range(40):
        Image.fromarray(micrograph(200, 200, index)).save(archive / f"more{index}.png")
    listed = tmp_path / "fields.parquet"
    microseg("list", archive, "--out", listed)
    out = tmp_path / "out"
    code = (
        "import sys, time; from pathlib import Path; from microseg.deploy.archive import job; job._PERIOD_S = 0.0;"
        "from microseg.deploy.archive.sink import ArchiveSink; keep = ArchiveSink._keep;"
        "ArchiveSink._keep = lambda *a: (keep(*a), time.sleep(0.05));"
        "from microseg.deploy.segment import segment; from microseg.deploy.segment_options import SegmentOptions;"
        "segment(SegmentOptions(*map(Path, sys.argv[1:4]), shard='1/1'))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, listed, tiny_engine, out])
    while not (out / "fields").exists() and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = sum(len(pd.read_parquet(path)) for path in (out / "fields").iterdir())
    assert kept >= 1
    with pytest.raises(InputError, match=rf"{46 - kept} of 46 fields have no result"):
        merge(Folder(out))
    assert "have no result yet" in str(merge(Folder(out), partial=True)["notices"])
    done = shard(listed, tiny_engine, out, "1/1")
    assert done["resumed"] == kept and done["measured"] == 46 - kept
    one = segment(SegmentOptions(archive, tiny_engine, tmp_path / "one")).summary
    assert same(merge(Folder(out))) == same(one) and not list((out / "tmp").iterdir())


def test_a_file_that_changed_is_named_and_measured_when_told(
    archive: Path, listed: Path, tiny_engine: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    os.utime(archive / "top.png", ns=(1, 1))
    Image.fromarray(micrograph(80, 70, 9)).save(archive / "b" / "ä.png")
    done = shard(listed, tiny_engine, out, "1/1")
    assert [each["field"] for each in done["failed"]] == ["b/ä.png", "top.png"]
    assert "changed since it was listed (size" in done["failed"][0]["reason"]
    assert "--measure-changed" in done["failed"][1]["reason"]
    again = shard(listed, tiny_engine, out, "1/1", measure_changed=True)
    assert (again["measured"], again["resumed"], again["failed"]) == (2, 4, [])
    summary = merge(Folder(out))
    assert summary["fields"] == {"total": 6, "measured": 6, "failed": 0}
    # A later change of a field that has a result is measured, too, and counts.
    Image.fromarray(micrograph(64, 70, 11)).save(archive / "a" / "#1?.png")
    assert shard(listed, tiny_engine, out, "1/1", measure_changed=True)["measured"] == 3
    merge(Folder(out))
    heights = pd.read_parquet(out / "fields").set_index("field")["height_px"]
    assert len(heights) == 6 and heights["a/#1?.png"] == 64


def test_a_copy_with_another_time_is_no_change_where_the_list_has_hashes(
    archive: Path, tiny_engine: Path, tmp_path: Path
) -> None:
    listed = tmp_path / "fields.parquet"
    microseg("list", archive, "--out", listed, "--sha256")
    os.utime(archive / "top.png", ns=(1, 1))
    assert shard(listed, tiny_engine, tmp_path / "out", "1/1")["failed"] == []


def test_what_is_never_mixed(archive: Path, listed: Path, tiny_engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shard(listed, tiny_engine, out, "1/2")
    other = write_threshold_engine(tmp_path / "other.onnx", ((0.3,), (0.35,)))
    with pytest.raises(InputError, match="has other settings"):
        shard(listed, other, out, "2/2")
    with pytest.raises(InputError, match="has other settings"):
        shard(listed, tiny_engine, out, "2/2", invert=True)
    (archive / "b" / "ä.png").unlink()
    microseg("list", archive, "--out", tmp_path / "less.parquet")
    with pytest.raises(InputError, match="holds results of another field list"):
        shard(tmp_path / "less.parquet", tiny_engine, out, "2/2")
    shard(listed, other, tmp_path / "elsewhere", "1/1")
    (foreign,) = (tmp_path / "elsewhere" / "fields").iterdir()
    shutil.copy(foreign, out / "fields")
    with pytest.raises(InputError, match="holds results of another engine"):
        merge(Folder(out))


def test_what_cannot_be_begun(archive: Path, listed: Path, tiny_engine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    for out, options, words in (
        ("file", {}, "is a file"),
        ("full", {}, "is not empty and holds no results"),
        ("new", {"part": "3/2"}, "there is no such shard"),
        ("new", {"masks": "some"}, "--masks some"),
        ("new", {"sections": "(.)"}, "a field list has its sections"),
        ("new", {"roi": archive}, "one region for all fields"),
    ):
        given: dict[str, Any] = {"part": "1/2", **options}
        with pytest.raises(InputError, match=words):
            shard(listed, tiny_engine, tmp_path / out, given.pop("part"), **given)
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match="--shard: needs a field list"):
        segment(SegmentOptions(archive, tiny_engine, tmp_path / "new", shard="1/2"))
    with pytest.raises(InputError, match="holds no results of a field list"):
        merge(Folder(tmp_path / "full"))


def test_an_engine_name_that_is_no_file_name_is_refused(listed: Path, tiny_engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shard(listed, tiny_engine, out, "1/1", masks="none")
    settings = json.loads((out / "settings.json").read_text(encoding="utf-8"))
    before = parts_of(out)
    for name in ("", ".", "..", "../up.onnx", "/etc/passwd", "a\0.onnx", "a" * 300):
        (out / "settings.json").write_text(json.dumps(settings | {"engine": name}), encoding="utf-8")
        with pytest.raises(InputError, match=r"settings.json: .* is no file name of an engine"):
            merge(Folder(out))
    assert parts_of(out) == before and not (out / "summary.json").exists()


def test_files_that_the_engine_learned_from_are_known_by_their_hashes() -> None:
    hashes = ["a", "b", "a", "c", "b"]
    table = ResultTable(
        columns={"row": pa.array(range(5)), "sha256": text_hashes(hashes)},
        phases=(),
        folds=1,
        preparations={},
        pixel_sizes={},
        trained=frozenset({"c", "x"}),
    )
    table.forget_hashes()
    assert table.same_files == [(2, 0), (4, 1)] and table.is_trained == [False, False, False, True, False]
