"""The site: pages of `microseg/docs` and of the stages, with generated reference pages, through Sphinx."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "microseg" / "docs"
# File of the repository -> page of the site. Everything below `microseg/docs` keeps its place.
OTHER_PAGES = {
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "train/README.md": "stages/train.md",
    "export/README.md": "stages/export.md",
    "deploy/README.md": "stages/deploy.md",
    "deploy/slurm/README.md": "stages/slurm.md",
    "benchmarks/README.md": "stages/benchmarks.md",
}
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")
_SCHEME = re.compile(r"^[a-z]+:")
# What a page must not load: fonts, scripts, style sheets and pictures of other hosts. Links that a reader follows are fine.
_LOADED = re.compile(
    r"<(?:script|img|iframe|link)\b[^>]*\b(?:src|href)=\"(?:https?:)?//[^\"]*\"|@import|url\([\"']?(?:https?:)?//"
)


def build(out: Path) -> None:
    """Build the site; warnings are errors.

    Args:
        out: Folder to write. What is in it is removed.

    Raises:
        SystemExit: Sphinx warns, or a page loads something from the network.
    """
    from sphinx.cmd.build import main as sphinx

    # Sphinx's own date of today, and nothing of a user's configuration, is part of a page.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    if out.exists():
        shutil.rmtree(out)
    with tempfile.TemporaryDirectory() as temporary:
        source, trees = Path(temporary, "source"), Path(temporary, "trees")
        assemble(source)
        here = Path(__file__).parent
        arguments = ["-q", "-W", "--keep-going", "-b", "html", "-c", str(here), "-d", str(trees), str(source), str(out)]
        if status := sphinx(arguments):
            raise SystemExit(status)
        shutil.copytree(source / "schemas", out / "schemas")
    if loads := from_the_network(out):
        raise SystemExit("the site loads from the network:\n" + "\n".join(loads))


def assemble(source: Path) -> None:
    """Write all source pages of the site to the folder `source`."""
    # These import PyTorch, which takes long; those who only ask for the pages' places need not wait.
    from benchmarks.documentation.commands import command_reference
    from benchmarks.documentation.python_api import api_reference
    from benchmarks.documentation.schemas import write_schemas

    shutil.copytree(PAGES, source, ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    for page in source.rglob("*.md"):
        origin = PAGES / page.relative_to(source)
        page.write_text(relinked(origin, page.relative_to(source)), encoding="utf-8")
    for name, target in OTHER_PAGES.items():
        page = source / target
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(relinked(ROOT / name, Path(target)), encoding="utf-8")
    reference = source / "reference"
    reference.mkdir(exist_ok=True)
    (reference / "commands.md").write_text(command_reference(), encoding="utf-8")
    (reference / "python.md").write_text(api_reference(), encoding="utf-8")
    write_schemas(reference / "files.md", source / "schemas")


def relinked(origin: Path, page: Path) -> str:
    """The text of a Markdown file with its links turned to the pages of the site.

    Args:
        origin: File of the repository.
        page: Its place in the site.

    Returns:
        The text. A link to a file that is no page of the site becomes the file's path in the repository.
    """

    def turned(link: re.Match[str]) -> str:
        title, target, anchor = link[1], link[2], link[3] or ""
        if _SCHEME.match(target):
            return link[0]
        path = Path(os.path.normpath(origin.parent / target))
        if path.is_relative_to(PAGES):
            place = path.relative_to(PAGES).as_posix()
        elif path.is_relative_to(ROOT):
            found = OTHER_PAGES.get(path.relative_to(ROOT).as_posix())
            if found is None:
                return f"{title} (`{path.relative_to(ROOT).as_posix()}`)" if title != f"`{target}`" else title
            place = found
        else:
            return link[0]
        return f"[{title}]({os.path.relpath(place, page.parent)}{anchor})"

    return _LINK.sub(turned, origin.read_text(encoding="utf-8"))


def from_the_network(site: Path) -> list[str]:
    """What pages and style sheets of a built site would load from other hosts, one text each."""
    found = []
    for path in sorted(site.rglob("*")):
        if path.suffix in (".html", ".css"):
            text = path.read_text(encoding="utf-8")
            found += [f"{path.relative_to(site)}: {match[0][:120]}" for match in _LOADED.finditer(text)]
    return found
