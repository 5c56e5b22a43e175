"""What the site is made of: links that lead to pages, nothing from the network, every command and key in the reference."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.documentation.commands import command_reference, commands, parameters
from benchmarks.documentation.markdown import table
from benchmarks.documentation.site import OTHER_PAGES, PAGES, ROOT, from_the_network, relinked
from microseg.cli.main import COMMANDS


@pytest.mark.parametrize("name", OTHER_PAGES)
def test_links_of_other_pages_lead_to_pages_of_the_site(name: str) -> None:
    text = relinked(ROOT / name, Path(OTHER_PAGES[name]))
    pages = {path.relative_to(PAGES).as_posix() for path in PAGES.rglob("*.md")} | set(OTHER_PAGES.values())
    for target in (part.split(")")[0].split("#")[0] for part in text.split("](")[1:]):
        if "://" not in target and target:
            place = (Path("/") / Path(OTHER_PAGES[name]).parent / target).resolve().relative_to("/").as_posix()
            assert place in pages, target


def test_links_to_pages_of_the_wheel_are_turned() -> None:
    text = relinked(ROOT / "CONTRIBUTING.md", Path("contributing.md"))
    assert "](design.md)" in text and "microseg/docs/design.md" not in text


def test_what_a_page_would_load_from_the_network_is_found(tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text('<a href="https://arxiv.org">paper</a><script src="a.js"></script>')
    (tmp_path / "bad.html").write_text('<link rel="stylesheet" href="https://fonts.example/a.css">')
    (tmp_path / "bad.css").write_text("@font-face { src: url(//cdn.example/a.woff) }")
    # A link that a reader follows loads nothing.
    assert [line.split(":")[0] for line in from_the_network(tmp_path)] == ["bad.css", "bad.html"]


def test_the_reference_has_every_command_with_every_option() -> None:
    page = command_reference()
    assert {name.split()[0] for name, _ in commands()} == set(COMMANDS)
    for name, command in commands():
        assert f"### {name}\n" in page
        for parameter in parameters(command):
            assert parameter.help, f"{name} {parameter.names}: no help"
            assert all(f"`{option}`".replace("|", "\\|") in page for option in parameter.names)


def test_cells_of_a_table_keep_bars_and_lines() -> None:
    assert table(("a", "b"), [("x|y", "1\n2")]).splitlines()[-1] == "| x\\|y | 1 2 |"
