"""The gain of the extended augmentation on real micrographs: equal steps with and without it, several seeds, paired fields.

`python -m benchmarks.augmentation [--json FILE] [--seeds 0 1]` trains the small U-Net (recipe S.4-small, ImageNet weights)
with `none` and with `extended`, in five folds by spot. One case trains on both detector sides and is scored on the test
spot. The other trains on one side and is scored on the other side. Runs that exist are scored again, not trained again.
Data: `MICROSEG_DATA`.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from microseg.core.system.files import write_json
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.recipe_files import load_recipe
from microseg.train.supervised.command import run_supervised

DATA = Path(__file__).parent / "data"
RECIPE, PIPELINES = "S.4-small", ("none", "extended")
# Native pixels, as the superalloy recipe: half of them would lose the tertiary precipitates.
SETTINGS = ["scale=1.0", "steps=150", "validate_every=50"]
# (trained on, scored on, which of its fields)
CASES = {
    "both sides -> test spot": ("superalloy", "superalloy-test", ""),
    "0d -> 180d": ("superalloy-0d", "superalloy-0d", "_180d_"),
    "180d -> 0d": ("superalloy-180d", "superalloy-180d", "_0d_"),
}
DRAWS = 10_000


def main() -> None:
    """Train, score, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found = {case: _case(case, options.seeds, options.runs) for case in options.only}
    table = Table(title="mIoU of the bag, mean over fields and seeds", title_justify="left")
    for column in ("trained -> scored", "fields", *PIPELINES, "difference, points [95 %]", "by seed"):
        table.add_column(column)
    for case, result in found.items():
        low, high = (100 * value for value in result["interval"])
        table.add_row(
            case, str(len(result["fields"])), *(f"{result['miou'][name]:.3f}" for name in PIPELINES),
            f"{100 * result['difference']:+.1f} \\[{low:+.1f}, {high:+.1f}]",
            ", ".join(f"{100 * value:+.1f}" for value in result["by_seed"]),
        )  # fmt: skip
    Console(width=130).print(table)
    if options.json:
        write_json(options.json, {"machine": machine(), "recipe": RECIPE, "settings": SETTINGS, "cases": found})


def _case(case: str, seeds: list[int], runs: Path) -> dict[str, Any]:
    """Scores of each augmentation, and their difference with a bootstrap over paired fields (seeds averaged)."""
    source, scored, which = CASES[case]
    scores: dict[str, list[list[float]]] = {}
    fields: list[str] = []
    for pipeline in PIPELINES:
        for seed in seeds:
            run = runs / f"augmentation-{source}-{pipeline}-{seed}"
            _, recipe = load_recipe(RECIPE, [*SETTINGS, f"augmentation.kind={pipeline}"], folds=5, seed=seed)
            run_supervised(DATA / f"{source}.yaml", RECIPE, recipe, run, resume=True)
            result = evaluate_run(run, DATA / f"{scored}.yaml")
            chosen = [field for field in result["fields"] if which in field["name"]]
            fields = [field["name"] for field in chosen]
            scores.setdefault(pipeline, []).append([field["miou"] for field in chosen])
            print(f"{run.name}: {fmean(scores[pipeline][-1]):.3f}", flush=True)
    values = {pipeline: np.array(rows) for pipeline, rows in scores.items()}  # (seeds, fields)
    gains = values["extended"] - values["none"]
    per_field = gains.mean(0)
    draws = np.random.default_rng(0).integers(per_field.size, size=(DRAWS, per_field.size))
    return {
        "fields": fields,
        "miou": {pipeline: float(array.mean()) for pipeline, array in values.items()},
        "each": {pipeline: array.tolist() for pipeline, array in values.items()},
        "difference": float(per_field.mean()),
        "interval": np.percentile(per_field[draws].mean(1), [2.5, 97.5]).tolist(),
        "by_seed": gains.mean(1).tolist(),
    }


if __name__ == "__main__":
    main()
