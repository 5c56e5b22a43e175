"""Expected output in the pages: runs the commands of a page and writes what they print below each of them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.documentation.site import ROOT

_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.DOTALL | re.MULTILINE)
_PROMPT = "$ microseg "
_COLUMNS = 80


def write_transcripts(page: Path) -> None:
    """Run every `$ microseg ...` line of a page's console blocks, in order, in one empty folder.

    Args:
        page: Markdown file to rewrite. The output of each command replaces the text below it.

    Raises:
        SystemExit: A command fails.
    """
    text = page.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as work:
        page.write_text(_BLOCK.sub(lambda block: _transcript(block[0], Path(work)), text), encoding="utf-8")


def _transcript(block: str, work: Path) -> str:
    lines = []
    for command in (line for line in block.splitlines() if line.startswith(_PROMPT)):
        print(command, flush=True)
        done = subprocess.run(
            [sys.executable, "-m", "microseg", *command.removeprefix(_PROMPT).split("#")[0].split()],
            cwd=work,
            env=os.environ | {"COLUMNS": str(_COLUMNS), "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{command}: exit status {done.returncode}\n{done.stdout[-2000:]}")
        lines += [command, *(_lasting(line, work) for line in done.stdout.splitlines())]
    return "\n".join(lines).rstrip() + "\n"


def _lasting(line: str, work: Path) -> str:
    """A line without what differs from run to run: the folder, and minutes of training."""
    return re.sub(r"\(\d+\.\d min\)", "(... min)", line.replace(f"{work.resolve()}{os.sep}", "")).rstrip()
