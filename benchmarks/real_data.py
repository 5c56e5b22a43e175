"""Train the shipped recipes on real micrographs and score the bag on fields that no fold has seen.

`python -m benchmarks.real_data [--json FILE] [--only superalloy coating] [--runs FOLDER]` prints the table of accuracy.
Data: `MICROSEG_DATA`, by default ../shared/data. Runs that exist in the folder are scored again, not trained again.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from microseg.core.system.files import write_json
from microseg.deploy.evaluate import evaluate_engine
from microseg.export.onnx_export import export_run
from microseg.runtime import EngineFile
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.recipe_files import load_recipe
from microseg.train.supervised.command import run_supervised

DATA = Path(__file__).parent / "data"
# recipe -> (training domain, test domains)
CASES = {
    "superalloy": ("superalloy", ["superalloy-test"]),
    "coating": ("coating", ["coating-050317-3"]),
    "superalloy-binary": ("superalloy-binary", ["superalloy-aged"]),
}
RECIPES = {"superalloy-binary": "superalloy"}


def main() -> None:
    """Print one table for all cases and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=["superalloy", "coating"])
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for runs and engines")
    options = parser.parse_args()
    console = Console(width=150)  # the table has ten figures a row
    results = {name: run_case(name, options.runs, console) for name in options.only}
    table = Table(title="Bag of five folds on fields that no fold has seen, native grid", title_justify="left")
    for column in ("trained on", "scored on"):
        table.add_column(column)
    for column in ("mIoU [95 % bootstrap]", "baseline", "IoU per phase [95 % bootstrap]", "fraction error, points",
                   "CV mIoU", "min to train"):  # fmt: skip
        table.add_column(column, justify="right")
    for name, case in results.items():
        for domain, result in case["tests"].items():
            table.add_row(
                name, domain, *_cells(result), f"{case['cv']['miou']:.3f}", f"{case['train_seconds'] / 60:.1f}"
            )
    console.print(table)
    if options.json:
        write_json(options.json, {"machine": machine(), "cases": results})


def run_case(name: str, runs: Path, console: Console) -> dict[str, Any]:
    """Train, export and score one case. Uses what exists."""
    source, tests = CASES[name]
    recipe_name, recipe = load_recipe(RECIPES.get(name, name))
    run, engine = runs / f"{name}-benchmark", runs / f"{name}-benchmark.onnx"
    console.print(f"{name}: microseg train supervised benchmarks/data/{source}.yaml --recipe {recipe_name} --out {run}")
    started = time.monotonic()
    summary = run_supervised(DATA / f"{source}.yaml", recipe_name, recipe, run, resume=True)
    assert summary is not None
    if not engine.exists():
        export_run(run, engine)
    return {
        "recipe": recipe.model_dump(mode="json"),
        "train_seconds": summary.seconds,
        "seconds_in_this_process": time.monotonic() - started,
        "engine_sha256": EngineFile(engine).sha256,
        "folds": json.loads(summary.model_dump_json())["folds"],
        "cv": evaluate_run(run, DATA / f"{source}.yaml"),
        "tests": {test: evaluate_engine(engine, DATA / f"{test}.yaml") for test in tests},
    }


def _cells(result: dict[str, Any]) -> list[str]:
    spread = result["spread"]
    phases = [f"{phase} {_value(value)} {_interval(spread['iou'][phase])}" for phase, value in result["iou"].items()]
    errors = [f"{phase} {100 * item['error']:.2f}" for phase, item in result["fractions"].items()]
    baseline = result["baseline"]
    return [
        f"{_value(result['miou'])} {_interval(spread['miou'])}",
        f"{baseline['name']} {_value(baseline['miou'])}" if baseline else "-",
        "\n".join(phases),
        "\n".join(errors),
    ]


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(interval: list[float] | None) -> str:
    return "" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]".replace("[", "\\[")


if __name__ == "__main__":
    main()
