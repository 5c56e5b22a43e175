"""The gain of pre-training on textures: the same encoder, random or pre-trained, learns the superalloy in equal steps.

`python -m benchmarks.pretraining [--json FILE] [--seeds 0 1]`. The classes are the four synthetic domains and the NASA
micrographs (superalloy by detector side, coating), cut into tiles, without the test sets. Training uses the basic
augmentation. At the full encoder rate (S.2-small), the encoder starts from random weights, or from textures learned from
random weights. At a tenth of the rate (S.5-small, as the paper fine-tunes), it starts from ImageNet weights, or from
textures learned from ImageNet weights.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from microseg.core.domains.domain import load_domain
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.preparation import Grid
from microseg.core.system.files import write_json
from microseg.synthetic.folder import write_domain
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.pretraining.command import run_pretrain
from microseg.train.recipe_files import load_pretrain_recipe, load_recipe
from microseg.train.supervised.command import run_supervised

DATA = Path(__file__).parent / "data"
TILE_PX, TILES_PER_FIELD, SYNTHETIC_FIELDS = 256, 12, 4
PRETRAIN, PRETRAIN_SETTINGS = "pretrain-small", ["scale=1.0", "steps=600", "validate_every=100"]
SETTINGS = ["scale=1.0", "steps=150", "validate_every=50"]


def main() -> None:
    """Pre-train, train, score, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    folder = options.runs / "pretraining-classes"
    classes = write_classes(folder)
    encoders = {init: _pretrain(folder, init, options.runs) for init in ("none", "imagenet")}
    print(f"tiles: {classes}")
    starts = {
        "random": ("S.2-small", "none"),
        "textures": ("S.2-small", str(encoders["none"])),
        "ImageNet": ("S.5-small", "imagenet"),
        "ImageNet, textures": ("S.5-small", str(encoders["imagenet"])),
    }
    rows = {start: [_score(start, *of, seed, options.runs) for seed in options.seeds] for start, of in starts.items()}
    table = Table(title=f"superalloy, {' '.join(SETTINGS)}: bag of three folds on the test spot", title_justify="left")
    for column in ("encoder starts from", "mIoU by seed", "mean", "against random, points"):
        table.add_column(column)
    means = {start: float(np.mean([row["miou"] for row in scored])) for start, scored in rows.items()}
    for start, scored in rows.items():
        each = ", ".join(f"{row['miou']:.3f}" for row in scored)
        table.add_row(start, each, f"{means[start]:.3f}", f"{100 * (means[start] - means['random']):+.1f}")
    Console(width=130).print(table)
    if options.json:
        write_json(options.json, {"machine": machine(), "classes": classes, "rows": rows})


def write_classes(folder: Path) -> dict[str, int]:
    """Write one sub-folder of tiles for each texture. Returns the number of textures."""
    sources: dict[str, list[tuple[Path, Any]]] = {}
    with tempfile.TemporaryDirectory() as work:
        for seed, kind in enumerate(("s", "t1", "t2", "t3")):
            write_domain(Path(work) / kind, kind, SYNTHETIC_FIELDS, 100 + seed)
            domain = load_domain(Path(work) / kind)
            sources[f"synthetic-{kind}"] = [(field.image, domain.preparation) for field in domain.fields]
        superalloy, coating = (load_domain(DATA / f"{name}.yaml") for name in ("superalloy", "coating"))
        for side in ("0d", "180d"):
            chosen = [field for field in superalloy.fields if f"_{side}_" in field.name]
            sources[f"superalloy-{side}"] = [(field.image, superalloy.preparation) for field in chosen]
        sources["coating"] = [(field.image, coating.preparation) for field in coating.fields]
        for name, files in sources.items():
            (folder / name).mkdir(parents=True, exist_ok=True)
            for index, (path, preparation) in enumerate(files):
                with open_prepared(path, preparation, Grid()) as prepared:
                    pixels = prepared.whole()
                rng = np.random.default_rng(index)
                for tile in range(TILES_PER_FIELD):
                    top, left = (int(rng.integers(max(1, side - TILE_PX + 1))) for side in pixels.shape)
                    cut = pixels[top : top + TILE_PX, left : left + TILE_PX]
                    cv2.imwrite(str(folder / name / f"{index:03d}-{tile}.png"), cut)
    return {name: len(files) * TILES_PER_FIELD for name, files in sources.items()}


def _pretrain(classes: Path, init: str, runs: Path) -> Path:
    """The run of an encoder that starts with `init` and learns to classify the textures."""
    run = runs / f"pretraining-encoder-from-{init}"
    name, recipe = load_pretrain_recipe(PRETRAIN, PRETRAIN_SETTINGS, init=init, seed=0)
    summary = run_pretrain(classes, name, recipe, run, resume=True).summary
    print(f"{summary.encoder} from {init}: {100 * summary.accuracy:.1f} % of unseen tiles recognised", flush=True)
    return run


def _score(start: str, recipe_name: str, weights: str, seed: int, runs: Path) -> dict[str, Any]:
    run = runs / f"pretraining-{start.lower().replace(', ', '-')}-{seed}"
    _, recipe = load_recipe(recipe_name, [*SETTINGS, f"encoder.weights={weights}"], seed=seed)
    run_supervised(DATA / "superalloy.yaml", recipe_name, recipe, run, resume=True)
    result = evaluate_run(run, DATA / "superalloy-test.yaml")
    print(f"{run.name}: {result['miou']:.3f}", flush=True)
    return {"seed": seed, "miou": result["miou"], "iou": result["iou"]}


if __name__ == "__main__":
    main()
