"""Streams that are closed, full, or without a reader: no traceback, the same exit status, complete reports."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microseg.cli.streams import Outlet, columns
from microseg.core.plain_text import plain, plain_name
from microseg.core.schemas.keys import METADATA_KEY
from microseg.runtime import read_manifest
from microseg.runtime.engine_metadata import append_metadata

pytestmark = pytest.mark.skipif(os.name != "posix", reason="redirections of a POSIX shell")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A micrograph of noise."""
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    Image.fromarray(noise).save(tmp_path / "in" / "a.png")
    return tmp_path


def run(folder: Path, *arguments: object, to: str = "", pipe: str = "") -> tuple[int, str]:
    """(exit status, what is left of standard error) of a command in a shell. `pipe` reads its output."""
    command = shlex.join([sys.executable, "-m", "microseg", *map(str, arguments)])
    script = f"{{ {command} {to} 2>>err; echo $? >status; }} {pipe}" if pipe else f"{command} {to}; echo $? >status"
    done = subprocess.run(["sh", "-c", script], cwd=folder, stderr=subprocess.PIPE, text=True, timeout=120)
    err = done.stderr + ((folder / "err").read_text() if pipe else "")
    assert "Traceback" not in err and "Exception ignored" not in err, err
    return int((folder / "status").read_text()), err


@pytest.mark.parametrize("to", [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full"])
def test_a_report_is_complete(folder: Path, tiny_engine: Path, to: str) -> None:
    status, err = run(folder, "segment", "in", "--engine", tiny_engine, "--out", "rep", "--json", "told.json", to=to)
    assert status == 0, err
    assert json.loads((folder / "rep" / "summary.json").read_text())["fields"]["measured"] == 1
    assert json.loads((folder / "told.json").read_text())["fields"]["measured"] == 1
    assert (folder / "rep" / "report.html").read_text(encoding="utf-8").rstrip().endswith("</html>")
    mask = np.asarray(Image.open(folder / "rep" / "masks" / "a.png.png"))
    assert mask.shape == (40, 50)
    lost = "microseg: standard output cannot be written (No space left on device), and text for it is lost.\n"
    assert err == (lost if to == ">/dev/full" else "")


@pytest.mark.parametrize("to", [">&-", ">&- 2>&-"])
def test_a_wrong_input_stays_2(folder: Path, tiny_engine: Path, to: str) -> None:
    status, err = run(folder, "segment", "nowhere", "--engine", tiny_engine, to=to)
    assert status == 2
    assert ("microseg: nowhere: does not exist" in err) == ("2>&-" not in to)


@pytest.mark.parametrize("to", ["2>&-", ">/dev/full"])
def test_wrong_usage_stays_2(folder: Path, to: str) -> None:
    status, err = run(folder, "segment", "--nonsense", to=to)
    assert status == 2
    assert ("--nonsense" in err) == ("2>&-" not in to)


@pytest.mark.parametrize("to", [">&- 2>&-", ">/dev/full"])
def test_failed_fields_stay_3(folder: Path, tiny_engine: Path, to: str) -> None:
    (folder / "in" / "b.tif").write_text("no picture")
    status, _ = run(folder, "segment", "in", "--engine", tiny_engine, "--out", "rep", to=to)
    assert status == 3
    assert "b.tif" in (folder / "rep" / "fields.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("to", [">&-"])
def test_a_changed_engine_stays_4(folder: Path, tiny_engine: Path, to: str) -> None:
    changed = Path(shutil.copy(tiny_engine, folder / "changed.onnx"))
    append_metadata(
        changed, METADATA_KEY, read_manifest(tiny_engine).model_copy(update={"stride": 16}).model_dump_json()
    )
    status, _ = run(folder, "inspect", "changed.onnx", to=to)
    assert status == 4


def test_a_reader_that_has_read_enough(folder: Path, tiny_engine: Path) -> None:
    assert run(folder, "segment", "in", "--engine", tiny_engine, "--out", "rep", pipe="| true") == (0, "")
    assert (folder / "rep" / "report.html").is_file()
    assert run(folder, "inspect", tiny_engine, "--json", pipe="| head -c 1 >/dev/null") == (0, "")


def test_what_a_program_reads_is_whole_or_an_error(folder: Path, tiny_engine: Path) -> None:
    status, err = run(folder, "inspect", tiny_engine, "--json", to=">/dev/full")
    assert status == 2
    assert err == (
        "microseg: standard output cannot be written (No space left on device), and text for it is lost. Remedy: free some "
        "space, or print to another place.\n"
    )
    assert run(folder, "inspect", tiny_engine, to=">/dev/full")[0] == 0


def test_a_library_that_prints_writes_into_no_result(folder: Path, tiny_engine: Path) -> None:
    """With standard error closed, the next file that is opened would get its number."""
    code = (
        "import os, sys; from microseg.__main__ import main; from microseg.core.pictures import png\n"
        "def chatty(writer, before=png.MaskWriter.finish):\n"
        "    [os.write(number, b'warning: from a library') for number in (1, 2)]\n"
        "    before(writer)\n"
        "png.MaskWriter.finish = chatty\n"
        "sys.argv[0] = 'microseg'\n"
        "main()\n"
    )
    command = shlex.join([sys.executable, "-c", code, "segment", "in", "--engine", str(tiny_engine), "--out", "rep"])
    subprocess.run(["sh", "-c", f"{command} <&- >&- 2>&-"], cwd=folder, check=True, timeout=120)
    assert b"warning" not in (folder / "rep" / "masks" / "a.png.png").read_bytes()


def test_an_outlet_keeps_the_first_reason() -> None:
    class Full(io.RawIOBase):
        def write(self, data: object) -> int:
            raise OSError(28, "No space left on device")

    outlet = Outlet(Full())
    stream = io.TextIOWrapper(io.BufferedWriter(outlet), encoding="utf-8")
    print("a" * 100_000, file=stream, flush=True)
    print("more", file=stream, flush=True)
    assert outlet.error is not None and outlet.error.errno == 28


@pytest.mark.parametrize(
    ("stated", "wanted"), [("72", 72), ("1", 1), ("0", None), ("abc", None), ("", None), ("-5", None), ("٣", 3)]
)
def test_columns(monkeypatch: pytest.MonkeyPatch, stated: str, wanted: int | None) -> None:
    monkeypatch.setenv("COLUMNS", stated)
    assert columns(io.StringIO()) == wanted


@pytest.mark.parametrize(
    ("stated", "terminal", "wanted"),
    [("", 20, 20), ("160", 20, 20), ("12", 20, 12), ("0", 20, 20), ("", 0, 80), ("160", 0, 160)],
)
def test_no_more_columns_than_a_terminal_has(
    monkeypatch: pytest.MonkeyPatch, stated: str, terminal: int, wanted: int
) -> None:
    termios = pytest.importorskip("termios")
    master, slave = os.openpty()
    termios.tcsetwinsize(slave, (25, terminal))
    monkeypatch.setenv("COLUMNS", stated)
    with os.fdopen(slave, "w") as stream, os.fdopen(master, "rb"):
        assert columns(stream) == wanted


def test_text_that_a_terminal_would_obey() -> None:
    assert plain("a\x1b[2Jb\r\nc\u202egpj.tif\x9b") == "a\\x1b[2Jb\\r\nc\\u202egpj.tif\\x9b"
    assert plain_name("two\nlines\t.tif") == "two\\nlines\\t.tif"
    for ordinary in ("Gefüge 100 %.tif", "日本語.tif", "[red]x[/red]", "é\u0301", "\U0001f52c", "שלום"):
        assert plain(ordinary) == plain_name(ordinary) == ordinary
