"""Tables at any width: nothing is cut, no figure is broken."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from microseg.cli.progress import status
from microseg.cli.tables import TextTable, output_console, phase_label, print_pairs, say, shortened
from tests.chain import microseg

FIGURES = ["12.34", "0.970 ± 0.010", "100.00"]


def table(*, shortens: bool = False) -> TextTable:
    found = TextTable("Fields of a wafer", ["field", "phase"], ["area %", "mean ± std", "n"], shortens=shortens)
    found.add("specimen-17-field-3.tif", phase_label("martensite austenite", "#0072b2"), *FIGURES)
    found.add("[red]b[/red].tif", "ferrite", "-", "", "2", style="bold", ends_section=True)
    return found


def printed(columns: int, what: TextTable, terminal: bool = True) -> list[str]:
    out = io.StringIO()
    what.print(Console(file=out, width=columns, height=25, force_terminal=terminal, color_system=None))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("columns", [1, 5, 20, 40, 60, 70, 80, 100, 10_000])
def test_no_cell_is_lost_or_broken_at_any_width(columns: int) -> None:
    lines = printed(columns, table())
    text = "\n".join(lines)
    for figure in (*FIGURES, "specimen-17-field-3.tif", "[red]b[/red].tif", "ferrite"):
        assert figure in text
    assert "…" not in text
    for word in ("martensite", "austenite"):
        assert word in text
    if lines[1].startswith(("┏", "╭")):
        assert all(len(line) <= columns for line in lines[1:])


def test_a_narrow_terminal_gets_lines() -> None:
    assert printed(40, table()) == [
        "Fields of a wafer",
        "field: specimen-17-field-3.tif",
        "  phase: ██ martensite austenite",
        "  area %: 12.34",
        "  mean ± std: 0.970 ± 0.010",
        "  n: 100.00",
        "field: [red]b[/red].tif",
        "  phase: ferrite",
        "  area %: -",
        "  n: 2",
    ]


def test_names_are_shortened_on_a_terminal_only() -> None:
    assert any("…" in line for line in printed(70, table(shortens=True)))
    assert all(len(line) <= 70 for line in printed(70, table(shortens=True)))
    assert not any("…" in line for line in printed(70, table(shortens=True), terminal=False))
    assert any("specimen-17-field-3.tif" in line for line in printed(70, table(shortens=True), terminal=False))


def test_wide_characters_keep_a_row_on_its_line() -> None:
    wide = TextTable("", ["field"], ["n"], shortens=True)
    wide.add("顕微鏡写真" * 6 + ".tif", "1")
    (row,) = [line for line in printed(40, wide) if line.startswith("│")]
    assert row.rstrip().endswith("1 │") and "….tif" not in row and ".tif" in row
    assert [shortened("顕微鏡", columns) for columns in (6, 5)] == ["顕微鏡", "顕…鏡"]


def test_pairs() -> None:
    for columns in (1, 20, 40, 80):
        out = io.StringIO()
        print_pairs(Console(file=out, width=columns), {"network's pixel": "0.0277 um", "file": "a" * 20})
        assert "0.0277 um" in out.getvalue() and "a" * 20 in out.getvalue()
        assert ("network's pixel: 0.0277 um\n" in out.getvalue()) == (columns < 45)


def test_what_a_terminal_would_obey_is_shown() -> None:
    out = io.StringIO()
    console = Console(file=out, width=80)
    say(console, "a\x1b[2J[red]:smile:")
    strange = TextTable("t\x1b", ["field\x1b"[:5]], ["n"])
    strange.add("two\nlines\u202e.tif", "1")
    strange.print(console)
    assert "\x1b" not in out.getvalue() and "\u202e" not in out.getvalue()
    assert "a\\x1b[2J[red]:smile:" in out.getvalue() and "two\\nlines\\u202e.tif" in out.getvalue()


def test_a_name_with_brackets_is_no_markup() -> None:
    with status("scoring a[/red].tif") as show:
        show("scoring [/b].tif")


@pytest.mark.parametrize(("stated", "wanted"), [("30", 30), ("1", 1), ("0", 10_000), ("abc", 10_000)])
def test_the_width_of_the_output(monkeypatch: pytest.MonkeyPatch, stated: str, wanted: int) -> None:
    monkeypatch.setenv("COLUMNS", stated)
    for kind in ("dumb", "xterm", ""):
        monkeypatch.setenv("TERM", kind)
        assert output_console().width == wanted


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A micrograph of noise."""
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    Image.fromarray(noise).save(tmp_path / "in" / "a.png")
    return tmp_path


@pytest.mark.parametrize("columns", [0, 1, 20, 40, 80])
def test_segment_at_any_width(folder: Path, tiny_engine: Path, columns: int) -> None:
    outcome = microseg("segment", folder / "in", "--engine", tiny_engine, "--out", folder / "rep", columns=columns)
    assert outcome.status == 0, outcome.err
    for text in ("1 of 1 fields measured", "ferrite", "bainite", "area %", "± 95 % CI", "note: ", "report.html"):
        assert text in outcome.out
    assert (
        "evidence: none: not validated; the sampling interval (E562) does not cover errors of the network"
        in outcome.out
    )
    sampling = outcome.out.partition("Sampling of fields (ASTM E562)")[2]
    shares = [float(figure) for figure in re.findall(r"(?:area %: |t │ +|e │ +)(\d+\.\d\d)", sampling)]
    assert sum(shares) == pytest.approx(100, abs=0.02) and len(shares) == 2


@pytest.mark.parametrize("columns", [1, 20, 40])
def test_inspect_and_check_at_any_width(source: Path, tiny_engine: Path, columns: int) -> None:
    shown = microseg("inspect", tiny_engine, columns=columns)
    assert shown.status == 0 and "precision: fp32" in shown.out and "file SHA-256" in shown.out
    shown = microseg("check", source, "--folds", 2, columns=columns)
    assert shown.status == 0 and "field: s-1-001.tif" in shown.out and "training can run" in shown.out


@pytest.mark.parametrize("columns", [0, 1, 20, 40, 60, 80])
def test_usage_and_help_at_any_width(columns: int) -> None:
    outcome = microseg("segment", "--nonsense", columns=columns)
    assert outcome.status == 2 and "--nonsense" in outcome.err
    outcome = microseg("segment", "--help", columns=columns)
    assert "--pixel-size-um" in outcome.out and "--memory-mb" in outcome.out and "…" not in outcome.out
