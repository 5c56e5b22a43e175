"""The paper's pattern on synthetic domains: trained on S alone, scored on unseen fields of S, T1, T2 and T3.

`python -m benchmarks.synthetic [--json FILE] [--folds K] [--fields N] [--runs FOLDER]`. Three controls stand beside it:
networks trained on each domain's own labels (T3 on the same pixel grid), fields with the mean and contrast of the source,
and a grey threshold. It uses the domains and runs that exist in the folder.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine
from microseg.core.domains.domain import load_domain, prepared_and_labels
from microseg.core.evaluation.metrics import confusion_matrix, mean_iou
from microseg.core.evaluation.scoring import rdt
from microseg.core.schemas.run import read_run
from microseg.core.system.files import write_json
from microseg.synthetic.appearance import DOMAINS
from microseg.synthetic.folder import write_domain
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.common.prediction import predict_field
from microseg.train.common.run_folder import load_networks
from microseg.train.recipe_files import load_recipe
from microseg.train.supervised.command import run_supervised

RECIPE = "synthetic"
SOURCE = "s"
# The domains were calibrated on fields of seed 1001.
TRAIN_SEED, UNSEEN_SEED = 1, 5001
FOREGROUND = "lath-bainite"
# The smallest bag there is: the controls ask whether the labels can be learned, not for the last point.
OWN_FOLDS = 2


def main() -> None:
    """Train, score, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--folds", type=int, default=5, help="networks trained on S")
    parser.add_argument("--fields", type=int, default=12, help="fields of 28.36 x 28.36 um to train on, per domain")
    parser.add_argument("--unseen", type=int, default=8, help="fields to score, per domain")
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/synthetic-benchmark"), help="folder for domains and runs"
    )
    parser.add_argument("--no-own", action="store_true", help="leave out the networks trained on own labels")
    options = parser.parse_args()
    console = Console(width=130)  # the table has nine columns
    console.print(f"domains and runs in {options.runs}")
    unseen = {name: options.runs / f"unseen-{name}" for name in DOMAINS}
    for name in DOMAINS:
        write_domain(options.runs / f"train-{name}", name, options.fields, TRAIN_SEED)
        write_domain(unseen[name], name, options.unseen, UNSEEN_SEED)
    seconds = {SOURCE: train(options.runs, SOURCE, options.folds, "source", console)}
    run = options.runs / "run-source"
    raw = {name: evaluate_run(run, unseen[name]) for name in DOMAINS}
    results: dict[str, Any] = {}
    for name in DOMAINS:
        own = raw[name] if name == SOURCE else None
        if own is None and not options.no_own:
            seconds[f"own-{name}"] = train(options.runs, name, OWN_FOLDS, f"own-{name}", console)
            own = evaluate_run(options.runs / f"run-own-{name}", unseen[name])
        matched = matched_miou(run, options.runs / f"train-{SOURCE}", unseen[name])
        gap = raw[SOURCE]["miou"] - raw[name]["miou"]
        results[name] = {
            "miou": raw[name]["miou"],
            "gap": gap,
            "rdt": rdt(raw[name]["miou"], raw[SOURCE]["miou"]),
            "matched_miou": matched,
            "gap_closed_by_matching": None if name == SOURCE else (matched - raw[name]["miou"]) / gap,
            "own_miou": own and own["miou"],
            "threshold_miou": raw[name]["baseline"]["miou"],
            "evaluation": raw[name],
            "own_evaluation": own,
        }
    console.print(table(results))
    if options.json:
        setting = {"recipe": load_recipe(RECIPE)[1].model_dump(mode="json"), "source_folds": options.folds}
        setting |= {"own_folds": OWN_FOLDS, "training_fields": options.fields, "unseen_fields": options.unseen}
        figures = {"machine": machine(), "setting": setting, "train_seconds": seconds, "domains": results}
        write_json(options.json, figures)


def train(runs: Path, domain: str, folds: int, name: str, console: Console) -> float:
    """Train the recipe on a domain, on the source's network grid. Returns the seconds that it took."""
    # The paper rescales LOM to the SEM's pixel size, then halves it.
    scale = load_recipe(RECIPE)[1].scale * DOMAINS[domain].pixel_size_um / DOMAINS[SOURCE].pixel_size_um
    settings = [f"folds={folds}", f"scale={scale:.6g}"]
    out, data = runs / f"run-{name}", runs / f"train-{domain}"
    command = " ".join(f"--set {setting}" for setting in settings)
    console.print(f"microseg train supervised {data} --recipe {RECIPE} {command} --out {out}", soft_wrap=True)
    started = time.monotonic()
    run_supervised(data, RECIPE, load_recipe(RECIPE, settings)[1], out, resume=True)
    return time.monotonic() - started


def matched_miou(run: Path, source: Path, target: Path) -> float:
    """Pooled mIoU of the bag on target fields that have the mean and standard deviation of the source's fields.

    The match takes place on the network's grid, after inversion. It shows what grey values alone explain.
    """
    record, summary = read_run(run)
    networks = load_networks(run, record, summary)
    images = [image for image, _ in _fields(source, record.grid)]
    mean, deviation = float(np.mean([i.mean() for i in images])), float(np.mean([i.std() for i in images]))
    confusion = np.zeros((2, 2), np.int64)
    for image, labels in _fields(target, record.grid):
        standard = (image - image.mean()) / max(float(image.std()), 1.0)
        matched = np.clip(np.rint(standard * deviation + mean), 0, 255).astype(np.uint8)
        probability, _ = predict_field(networks, matched, record.stride, record.halo_px)
        confusion += confusion_matrix(labels, probability.mean(0).argmax(0).astype(np.uint8), 2)
    return float(mean_iou(confusion))


def _fields(path: Path, grid: Any) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    domain = load_domain(path)
    return [prepared_and_labels(field, domain, grid) for field in domain.fields]


def table(results: dict[str, Any]) -> Table:
    """One row for each domain."""
    shown = Table(title="Trained on S alone, scored on unseen fields (native grid)", title_justify="left")
    shown.add_column("domain")
    for column in ("mIoU", "folds", "RDT %", "bainite %\ntrue / found", "mean and contrast\nmatched", "gap closed %",
                   "own labels", "threshold"):  # fmt: skip
        shown.add_column(column, justify="right")
    for name, item in results.items():
        folds, fraction = item["evaluation"]["folds"], item["evaluation"]["fractions"][FOREGROUND]
        closed = item["gap_closed_by_matching"]
        shown.add_row(
            name.upper(),
            f"{item['miou']:.3f}",
            f"{folds['miou_mean']:.3f} ± {folds['miou_std'] or 0:.3f}",
            "-" if item["rdt"] is None else f"{100 * item['rdt']:+.1f}",
            f"{100 * fraction['true']:.1f} / {100 * fraction['predicted']:.1f}",
            f"{item['matched_miou']:.3f}",
            "-" if closed is None else f"{100 * closed:.0f}",
            "-" if item["own_miou"] is None else f"{item['own_miou']:.3f}",
            f"{item['threshold_miou']:.3f}",
        )
    return shown


if __name__ == "__main__":
    main()
