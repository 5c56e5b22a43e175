"""`microseg segment` as typed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner

from microseg.cli.measure.segment import _field_notices, segment
from microseg.core.errors import InputError
from tests.chain import microseg

runner = CliRunner()


@pytest.fixture
def app() -> typer.Typer:
    """The command alone."""
    found = typer.Typer()
    found.command()(segment)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two micrographs of noise."""
    (tmp_path / "wafer_dir").mkdir()
    for index in range(2):
        noise = np.random.default_rng(index).integers(0, 256, (40, 50), np.uint8)
        Image.fromarray(noise).save(tmp_path / "wafer_dir" / f"{index}.png")
    return tmp_path / "wafer_dir"


def test_prints_fractions_and_the_report(app: typer.Typer, folder: Path, tiny_engine: Path, tmp_path: Path) -> None:
    told = tmp_path / "summary.json"
    result = runner.invoke(app, [str(folder), "--engine", str(tiny_engine), "--json", str(told)])
    assert result.exit_code == 0
    assert "2 of 2 fields measured" in result.stdout
    assert "bainite" in result.stdout and "%RA" in result.stdout
    assert str(tmp_path / "wafer_dir-report" / "report.html") in result.stdout
    assert json.loads(told.read_text()) == json.loads((tmp_path / "wafer_dir-report" / "summary.json").read_text())


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="Linux alone has a folder where nobody can make a file")
def test_a_summary_that_cannot_be_written_is_refused_before_anything_is_measured(
    app: typer.Typer, folder: Path, tiny_engine: Path
) -> None:
    result = runner.invoke(app, [str(folder), "--engine", str(tiny_engine), "--json", "/proc/x.json"])
    assert isinstance(result.exception, InputError) and "/proc/x.json: cannot be written" in str(result.exception)
    assert not (folder.parent / "wafer_dir-report").exists()


def test_a_service_that_closed_its_streams(
    app: typer.Typer, folder: Path, tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microseg.cli.measure.segment.sys", SimpleNamespace(stderr=None))
    assert runner.invoke(app, [str(folder), "--engine", str(tiny_engine)]).exit_code == 0


def test_a_log_file_that_knows_fewer_characters(folder: Path, tiny_engine: Path, tmp_path: Path) -> None:
    """As Python opens it on Windows."""
    command = [sys.executable, "-m", "microseg", "segment", str(folder), "--engine", str(tiny_engine)]
    env = os.environ | {"PYTHONIOENCODING": "cp1252"}
    done = subprocess.run(command, env=env, capture_output=True, encoding="cp1252")
    assert done.returncode == 0, done.stderr
    assert "2 of 2 fields measured" in done.stdout and "report.html" in done.stdout


def test_failed_fields_exit_with_3(app: typer.Typer, folder: Path, tiny_engine: Path) -> None:
    (folder / "broken.png").write_bytes(b"x")
    result = runner.invoke(app, [str(folder), "--engine", str(tiny_engine), "--no-invert"])
    assert result.exit_code == 3
    assert "2 of 3 fields measured" in result.stdout
    assert "broken.png" in result.stderr


@pytest.mark.parametrize(
    "option",
    [
        ["--batch", "0"],
        *(["--pixel-size-um", text] for text in ("0", "inf", "nan")),
        ["--device", "tpu"],
        ["--threads", "x"],
    ],
)
def test_wrong_usage_exits_with_2(app: typer.Typer, folder: Path, tiny_engine: Path, option: list[str]) -> None:
    result = runner.invoke(app, [str(folder), "--engine", str(tiny_engine), *option])
    assert result.exit_code == 2


def test_notices_of_fields_are_lines_with_their_number() -> None:
    def notice(kind: str, text: str, count: int) -> dict[str, object]:
        names = [f"f{index}.tif" for index in range(min(count, 5))]
        return {"kind": kind, "text": text, "count": count, "fields": names}

    found = [notice("pixel size", "assumed", 12), notice("page", "page 2 of 3\x1b", 1)]
    found += [notice("data bar", f"{index} rows", 2) for index in range(7)]
    lines = list(_field_notices(found))
    assert lines[:3] == [
        "note: pixel size, 12 fields (f0.tif, f1.tif, f2.tif and 9 more): assumed",
        "note: page, 1 field (f0.tif): page 2 of 3\\x1b",
        "note: data bar, 2 fields (f0.tif, f1.tif): 0 rows",
    ]
    assert len(lines) == 2 + 5 + 1
    assert lines[-1].startswith("note: data bar: 4 fields more, each with a notice of its own.")


def test_notices_of_fields_reach_the_terminal(folder: Path, tiny_engine: Path) -> None:
    noise = np.random.default_rng(5).integers(0, 4096, (40, 50), np.uint16)
    Image.fromarray(noise).save(folder / "deep.png")
    outcome = microseg("segment", folder, "--engine", tiny_engine, "--json", folder.parent / "told.json")
    assert outcome.status == 0, outcome.err
    (notice,) = [each for each in json.loads((folder.parent / "told.json").read_text())["field_notices"]
                 if each["kind"] == "grey values"]  # fmt: skip
    assert f"note: grey values, 1 field (deep.png): {notice['text']}" in outcome.out
