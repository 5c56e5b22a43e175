"""What README and documentation promise: files that exist, commands that parse, figures that are those of the results."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from benchmarks.documentation.commands import commands as every_command
from benchmarks.documentation.figures import marked_pages, with_tables
from benchmarks.documentation.site import OTHER_PAGES, PAGES
from tests.command_line import parsed

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / name for name in OTHER_PAGES), *PAGES.rglob("*.md")])
LINK = re.compile(r"!?\[[^\]]*\]\(([^)#\s]+)?(?:#([^)\s]*))?\)")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INLINE = re.compile(r"`(microseg [a-z][^`]*)`")
FILE = re.compile(
    r"`((?:microseg|train|export|deploy|tests|benchmarks)/[\w./-]+\.(?:py|yaml|md|json|sbatch|toml|yml))`"
)
# Words that stand for something, and what is cut off, in quoted commands.
OPEN = re.compile(r"\.\.\.|COMMAND")


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(path: Path) -> list[str]:
    """The command lines of microseg that a document quotes, each on one line and without its comment."""
    text = path.read_text(encoding="utf-8")
    found = []
    for kind, block in BLOCK.findall(text):
        if kind in ("sh", "bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                words = line.removeprefix("$ ")
                place = re.search(r"(?:^|/bin/| )(microseg [a-z-].*)$", words)
                if place and not words.startswith(("pip", "docker build", "useradd", "cp ", "install ")):
                    found.append(place[1])
    found += [match for match in INLINE.findall(BLOCK.sub("", text)) if not OPEN.search(match)]
    # Of what may be left out everything is taken, of alternatives the first.
    return [re.sub(r"\|[\w.]+", "", command.replace("[", "").replace("]", "")) for command in found]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_and_pictures_exist(document: Path) -> None:
    text = BLOCK.sub("", document.read_text(encoding="utf-8"))
    for target, anchor in LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path = Path(os.path.normpath(document.parent / target)) if target else document
        assert path.exists(), f"{target} does not exist"
        assert not anchor or anchor in anchors(path), f"{target}#{anchor}: no such heading"


@pytest.mark.parametrize("page", sorted(PAGES.rglob("*.md")), ids=name_of)
def test_pages_of_the_wheel_link_to_pages_of_the_wheel(page: Path) -> None:
    for target, _ in LINK.findall(BLOCK.sub("", page.read_text(encoding="utf-8"))):
        if not re.match(r"[a-z]+:", target):
            assert Path(os.path.normpath(page.parent / target)).is_relative_to(PAGES), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_quoted_commands_parse(document: Path) -> None:
    known = {name for name, _ in every_command()} | {"train"}
    for command in commands(document):
        words = shlex.split(command, comments=True)[1:]
        if " ".join(words) not in known and words[-1] not in ("--help", "--version"):
            parsed(words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_named_files_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for name in sorted(set(FILE.findall(text))):
        if (document.parent.parent == ROOT and not name.startswith("microseg/")) or "NAME" in name:
            continue  # a stage's README names files from its own folder; NAME stands for a name
        assert (ROOT / name).is_file(), f"{name} does not exist"


def test_the_readme_has_at_most_120_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


@pytest.mark.parametrize("page", marked_pages(), ids=name_of)
def test_tables_are_those_of_the_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert with_tables(text) == text, "Remedy: python -m benchmarks.documentation --figures"


def test_pages_and_pictures_are_in_the_wheel_and_small() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"][
        "wheel"
    ]
    assert wheel["packages"] == ["microseg"] and "exclude" not in wheel
    pictures = [path for path in PAGES.rglob("*") if path.suffix in (".png", ".jpg")]
    assert pictures and all(path.stat().st_size <= 150_000 for path in pictures)
    shown = {Path(target).name for page in DOCUMENTS for target, _ in LINK.findall(page.read_text(encoding="utf-8"))}
    assert {path.name for path in pictures} <= shown
