"""How a recipe was chosen: its variants are trained on one fold and scored on the fields that this fold holds out.

`python -m benchmarks.choice superalloy [--folds 0] [--json FILE]`. It never reads a test set.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from microseg.core.system.files import write_json
from microseg.train.recipe_files import load_recipe
from microseg.train.supervised.command import run_supervised

DATA = Path(__file__).parent / "data"
# recipe -> variants, each the keys in which it differs from the recipe as shipped
VARIANTS: dict[str, dict[str, list[str]]] = {
    "superalloy": {
        "as shipped": [],
        "wide decoder, fewer steps": ["network.decoder_channels=[256,128,64,32,16]", "steps=220", "validate_every=55"],
    },
    "coating": {
        "as shipped": [],
        "all tiles randomised": ["augmentation.share=1"],
        "native size": ["scale=1.0"],
    },
}


def main() -> None:
    """Train the folds of all variants and print one row for each variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", choices=list(VARIANTS))
    parser.add_argument("--folds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for index, (title, overrides) in enumerate(VARIANTS[options.recipe].items()):
        name, recipe = load_recipe(options.recipe, overrides)
        # What is trained here as shipped, `benchmarks.real_data` goes on with.
        run = options.runs / (f"choice-{options.recipe}-{index}" if overrides else f"{options.recipe}-benchmark")
        run_supervised(DATA / f"{options.recipe}.yaml", name, recipe, run, resume=True, only_folds=options.folds)
        scores = [json.loads((run / f"fold{fold}" / "fold.json").read_text())["info"] for fold in options.folds]
        rows.append({"variant": title, "overrides": overrides, "steps": recipe.steps, "folds": scores})
    table = Table(title=f"{options.recipe}: held-out fields of fold {options.folds}", title_justify="left")
    for column in ("variant", "--set", "steps", "mIoU", "IoU per phase"):
        table.add_column(column)
    for row in rows:
        table.add_row(
            str(row["variant"]),
            " ".join(row["overrides"]) or "-",
            str(row["steps"]),
            ", ".join(f"{fold['miou']:.3f}" for fold in row["folds"]),
            "; ".join(", ".join(f"{k} {v:.3f}" for k, v in fold["iou"].items()) for fold in row["folds"]),
        )
    Console().print(table)
    if options.json:
        write_json(options.json, rows)


if __name__ == "__main__":
    main()
