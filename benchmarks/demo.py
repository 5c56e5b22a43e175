"""The whole chain on synthetic micrographs, step by step, as a user would type it: `make demo`."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from microseg.core.system.files import write_json

OUT = Path("demo")


def main() -> None:
    """Run the commands of the tutorial in demo/ and print the measured fractions beside the true ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    console = Console()
    started = time.monotonic()
    if OUT.exists():
        shutil.rmtree(OUT)
    engine, unseen = OUT / "bagged.onnx", OUT / "wafer_dir"
    step(console, "Labelled micrographs of the source domain", f"synth {OUT / 'source'} --domain s --fields 8 --seed 1")
    step(console, "What was understood of them", f"check {OUT / 'source'} --folds 2")
    step(console, "Train a bag of two networks", f"train supervised {OUT / 'source'} --recipe demo --out {OUT / 'run'}")
    step(console, "One engine of both", f"export {OUT / 'run'} --out {engine}")
    step(console, "Micrographs that nobody has seen", f"synth {unseen} --domain s --fields 5 --seed 1001")
    step(console, "Measure them", f"segment {unseen} --engine {engine} --out {OUT / 'report'}")
    step(console, "Compare with the exact labels", f"evaluate {engine} {unseen} --json {OUT / 'evaluation.json'}")
    result = json.loads((OUT / "evaluation.json").read_text(encoding="utf-8"))
    table = Table(title="Area fraction of the demo's unseen fields, %", title_justify="left")
    for column in ("phase", "true", "measured"):
        table.add_column(column, justify="left" if column == "phase" else "right")
    for phase, item in result["fractions"].items():
        table.add_row(phase, f"{100 * item['true']:.1f}", f"{100 * item['predicted']:.1f}")
    console.print()
    console.print(table)
    seconds = time.monotonic() - started
    console.print(f"mIoU {result['miou']:.3f} on unseen fields; {seconds:.0f} s in all")
    console.print(f"Report: {(OUT / 'report' / 'report.html').resolve()}", soft_wrap=True, highlight=False)
    if options.json:
        write_json(options.json, {"miou": result["miou"], "fractions": result["fractions"], "seconds": seconds})


def step(console: Console, title: str, arguments: str) -> None:
    """Print what the step does and its command, run it, and stop at the first failure."""
    console.print(f"\n[bold]{title}[/bold]\n[dim]$[/dim] microseg {arguments}", highlight=False, soft_wrap=True)
    done = subprocess.run([sys.executable, "-m", "microseg", *arguments.split()], check=False)
    if done.returncode:
        raise SystemExit(done.returncode)


if __name__ == "__main__":
    main()
