"""Adaptation without labels: methods x targets, each beside the unadapted bag and equally long source training.

`python -m benchmarks.uda [--json FILE] [--only CASE ...] [--methods NAME ...] [--seeds 0] [--folds K] [--runs FOLDER]`.
Rows that exist in the folder are not trained again. Synthetic targets adapt on unlabelled fields and are scored on other
fields. Real targets are few, so the same fields are given and scored. Snapshots are kept: the table compares every
label-free criterion, and the choice, with the best snapshot. Labels are read only for that comparison.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks.machine import machine
from benchmarks.uda_tables import (
    CRITERIA,
    criteria_table,
    fraction_error,
    fractions_table,
    regrets_table,
    table,
    verdict_table,
)
from microseg.core.domains.domain import load_domain, prepared_and_labels
from microseg.core.evaluation.metrics import confusion_matrix, mean_iou
from microseg.core.schemas.run import RunRecord, read_record
from microseg.core.system.files import write_json, write_yaml
from microseg.core.system.yaml_file import read_yaml
from microseg.synthetic.folder import write_domain
from microseg.train.analysis.evaluate import evaluate_networks, evaluate_run
from microseg.train.common.prediction import predict_field
from microseg.train.common.recipe import Recipe
from microseg.train.common.run_folder import load_network
from microseg.train.recipe_files import load_recipe, load_uda_recipe
from microseg.train.supervised.command import run_supervised
from microseg.train.uda.command import AdaptationOptions, run_uda
from microseg.train.uda.recipe import UdaRecipe, longer_source
from microseg.train.uda.verdict import LONGER_SOURCE, UNADAPTED

DATA = Path(__file__).parent / "data"
SOURCE_FIELDS, TARGET_FIELDS = 12, 6
SOURCE_SEED, TARGET_SEED, SCORED_SEED = 1, 3001, 5001
METHODS = (
    "source",
    "normalise",
    "statistics",
    "adaptsegnet",
    "advent",
    "minent",
    "fda",
    "dacs",
    "mic",
    "intrada",
    "dast",
    "auto",
)
SOURCE_UM = 0.0277


@dataclass(frozen=True)
class Case:
    """A labelled source with its recipe, an unlabelled target, and the labelled fields that score the result.

    synthetic: (kind, mean fraction) of the target's fields and of the scored fields; then there are no paths. folds: of the
    source, where it has too few fields for those of the recipe.
    """

    source: str
    recipe: str
    target: str = ""
    scored: str = ""
    kind: str = ""
    fraction: float = 0.53
    scored_fraction: float = 0.53
    scored_fields: int = 4
    folds: int | None = None


# The paper's label shift: both bags are scored on the same twelve fields, half-way between the two training sets.
COMMON: dict[str, Any] = {"scored_fraction": 0.40, "scored_fields": 12}
CASES = {
    "T1": Case("synthetic", "synthetic", kind="t1"),
    "T2": Case("synthetic", "synthetic", kind="t2"),
    "T3": Case("synthetic", "synthetic", kind="t3"),
    "S other fields": Case("synthetic", "synthetic", kind="s"),
    "T2 of 0.53": Case("synthetic", "synthetic", kind="t2", **COMMON),
    "T2 of 0.29": Case("synthetic", "synthetic", kind="t2", fraction=0.29, **COMMON),
    "T3 of 0.53": Case("synthetic", "synthetic", kind="t3", **COMMON),
    "T3 of 0.29": Case("synthetic", "synthetic", kind="t3", fraction=0.29, **COMMON),
    "aged superalloy": Case("superalloy-binary", "superalloy", "superalloy-aged", "superalloy-aged"),
    "coating": Case("coating", "coating", "coating-050317-3", "coating-050317-3"),
    "superalloy 180d": Case("superalloy-0d", "superalloy", "superalloy-180d", "superalloy-180d"),
    "superalloy 0d": Case("superalloy-180d", "superalloy", "superalloy-0d", "superalloy-0d"),
    "superalloy from aged": Case("superalloy-aged", "superalloy", "superalloy-binary", "superalloy-binary", folds=4),
    "coating 040617-3": Case("coating-without-040617-3", "coating", "coating-040617-3", "coating-040617-3"),
    "coating for superalloy": Case("superalloy-binary", "superalloy", "coating-050317-3"),
    "superalloy for synthetic": Case("synthetic", "synthetic", "superalloy-binary"),
    "coating for synthetic": Case("synthetic", "synthetic", "coating-050317-3"),
    "noise": Case("synthetic", "synthetic", kind="noise"),
}


def main() -> None:
    """Train what is missing, score, print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["source", "normalise", "auto"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--folds", type=int, help="of every method but auto; default: all")
    parser.add_argument(
        "--set", dest="settings", nargs="+", default=[], metavar="KEY=VALUE", help="of every recipe that trains"
    )
    parser.add_argument("--label", default="", help="name of these settings in the table")
    parser.add_argument("--runs", type=Path, default=Path("runs/uda-benchmark"))
    parser.add_argument(
        "--read", type=Path, nargs="+", default=[], help="print the tables of such JSON files; nothing is trained"
    )
    options = parser.parse_args()
    rows = [item for path in options.read for item in json.loads(path.read_text(encoding="utf-8"))["rows"]]
    for case in options.only if not options.read else []:
        for method in options.methods:
            for seed in options.seeds:
                folds = None if method == "auto" else options.folds
                rows.append(row(options.runs, case, method, seed, folds, options.settings, options.label))
                show(rows[-1])
    tables = (table, fractions_table, criteria_table, regrets_table, verdict_table)
    Console(width=240).print(*(make(rows) for make in tables))
    if options.json:
        write_json(options.json, {"machine": machine(), "rows": rows})


def row(
    runs: Path, case_name: str, method: str, seed: int, folds: int | None, settings: list[str], label: str
) -> dict[str, Any]:
    """One method on one target, from its file or trained now."""
    name = "-".join(str(part) for part in (case_name.replace(" ", "_"), method, *([label] if label else []), seed))
    kept = runs / "rows" / f"{name}.json"
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8"))
        return found
    case = CASES[case_name]
    source, target, scored = prepare(runs, case)
    out = runs / "runs" / run_name(case, method, label, seed)
    steps = [] if method == "normalise" else [*settings, "keep_snapshots=true"]
    recipe_name, recipe = load_uda_recipe(f"uda-{method}", steps, seed=seed)
    auto = method == "auto"
    if auto:
        lend_control(runs / "runs" / run_name(case, "source", label, seed), out, recipe)
    notices: list[str] = []
    # What a user with a bare folder has: only `auto` finds out about polarity and pixel size by itself.
    given = target / "images" if auto and case.kind and case.kind != "noise" else target
    summary = run_uda(
        given, source, recipe_name, recipe, out, AdaptationOptions(auto=auto, always=not auto, control=auto, folds=folds),
        resume=True, notice=notices.append,
    )  # fmt: skip
    said = out / "benchmark.json"  # of the process that trained: other rows share the run
    if not said.is_file():
        write_json(said, {"notices": notices})
    assert summary.adaptation is not None
    # Of training alone, interruptions left out.
    minutes = sum(candidate.minutes for candidate in summary.adaptation.candidates)
    result: dict[str, Any] = {"case": case_name, "method": method, "label": label, "seed": seed}
    result |= json.loads(said.read_text(encoding="utf-8"))
    result |= {"minutes": minutes, "folds": len(summary.folds), "decision": summary.adaptation.model_dump(mode="json")}
    # A file may hold rows of several machines.
    result["processor"] = machine()["processor"]
    if scored is not None:
        result |= {"before": evaluate_run(source, scored), "after": evaluate_run(out, scored)}
        if case.kind == "t3":
            result["as_it_comes"] = evaluate_run(source, as_it_comes(scored))["miou"]
        decision = summary.adaptation
        last = decision.candidates[-1].name
        was_taken = decision.chosen == last != UNADAPTED
        result["bags"] = trained_bags(out, scored) if auto else {}
        adapted = [scores for name, scores in result["bags"].items() if name != LONGER_SOURCE]
        result["trained"] = result["after"]["miou"] if was_taken else adapted[-1]["miou"] if adapted else None
        result["source_after"] = float(np.mean([fold.miou for fold in summary.folds]))
        # Longer source training chooses nothing, and the twelve fields of the label shift are for bags alone.
        chooses = method != "source" and case.scored_fields == Case.scored_fields
        result["snapshots"] = snapshots(out, scored) if chooses else []
    write_json(kept, result)
    return result


def run_name(case: Case, method: str, label: str, seed: int) -> str:
    """One run serves all cases that differ only in the scored fields. Longer source training serves all targets."""
    target = f"{case.kind}-{case.fraction:g}" if case.kind else case.target
    parts = [case.source, *([] if method == "source" else [target]), method, label, str(seed)]
    return "-".join(part for part in parts if part)


def lend_control(control: Path, out: Path, recipe: UdaRecipe) -> None:
    """Reuse a row of equally long source training in `auto`, because it does not use the target.

    Its history on the target is that of the row. Weights and figures of the verdict equal those of a training here.
    """
    kept = out / "methods" / "source"
    if kept.exists() or not (control / "summary.json").is_file():
        return
    record = read_record(control)
    assert record.adaptation is not None
    if UdaRecipe.model_validate(record.adaptation.recipe) != longer_source(recipe):
        return
    shutil.copytree(control / "methods" / "source", kept)
    for path in kept.glob("fold*/fold.json"):
        write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"warnings": []})


def as_it_comes(scored: Path) -> Path:
    """The same fields, neither inverted nor rescaled: as an operator gives them who states nothing."""
    content = read_yaml(scored / "domain.yaml")
    path = scored / "as-it-comes.yaml"
    write_yaml(path, content | {"invert": False, "pixel_size_um": SOURCE_UM})
    return path


def trained_bags(run: Path, scored: Path) -> dict[str, dict[str, float]]:
    """MIoU and fraction error, 0-1, of each bag that was trained, whether or not the verdict takes it, by its name.

    The bag of the last round is the last one.
    """
    record = read_record(run)
    assert record.adaptation is not None
    entry = record.adaptation.target
    entry = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"tone": None})})
    folders: dict[str, list[Path]] = {}
    for folder in [*sorted((run / "methods" / LONGER_SOURCE).glob("fold*")), *_trained_folds(run, record)]:
        folders.setdefault(folder.parent.name, []).append(folder)
    found = {}
    for name, folds in folders.items():
        networks = [
            load_network(Recipe.model_validate(record.recipe), len(record.phases), folder / "model.safetensors")
            for folder in folds
        ]
        scores = evaluate_networks(networks, record, entry, scored)
        found[name] = {"miou": float(scores["miou"]), "fraction_error": fraction_error(scores)}
    return found


def _trained_folds(run: Path, record: RunRecord) -> list[Path]:
    """The folds of the run's method, of both rounds, without the control that `auto` trains beside it."""
    assert record.adaptation is not None
    return sorted((run / "methods").glob(f"{record.adaptation.recipe['method']['kind']}*/fold*"))


def prepare(runs: Path, case: Case) -> tuple[Path, Path, Path | None]:
    """(source run, target, labelled fields to score). Trains and draws what does not exist."""
    source = runs / f"source-{case.source}"
    if case.source == "synthetic":
        data = runs / "data" / "source"
        write_domain(data, "s", SOURCE_FIELDS, SOURCE_SEED)
    else:
        data = DATA / f"{case.source}.yaml"
    name, recipe = load_recipe(case.recipe, folds=case.folds)
    run_supervised(data, name, recipe, source, resume=True)
    if case.kind == "noise":
        return source, _noise(runs / "data" / "noise"), None
    if not case.kind and not case.scored:
        # Another material has other phases: its images alone are given, as a user would.
        return source, load_domain(DATA / f"{case.target}.yaml").training_fields[0].image.parent, None
    if not case.kind:
        return source, DATA / f"{case.target}.yaml", DATA / f"{case.scored}.yaml"
    target = runs / "data" / f"{case.kind}-{case.fraction:g}"
    scored = runs / "data" / f"scored-{case.kind}-{case.scored_fraction:g}-{case.scored_fields}"
    write_domain(target, case.kind, TARGET_FIELDS, TARGET_SEED, fraction=case.fraction)
    write_domain(scored, case.kind, case.scored_fields, SCORED_SEED, fraction=case.scored_fraction)
    return source, target, scored


def _noise(folder: Path) -> Path:
    """Fields of correlated noise, without any material. Pixel size of S."""
    import cv2
    import tifffile

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(TARGET_FIELDS):
        grey = cv2.GaussianBlur(rng.standard_normal((700, 700), dtype=np.float32), (0, 0), 2.0)
        tifffile.imwrite(folder / f"noise-{index}.tif", np.clip(128 + 60 * grey / grey.std(), 0, 255).astype(np.uint8))
    return folder


def snapshots(run: Path, scored: Path) -> list[dict[str, Any]]:
    """The label-free criteria of every kept snapshot beside its mIoU on the labelled fields, fold by fold, on its grid."""
    record = read_record(run)
    recipe = Recipe.model_validate(record.recipe)
    fields = _labelled(record, scored)
    found = []
    for folder in _trained_folds(run, record):
        for item in csv.DictReader((folder / "history.csv").open(encoding="utf-8")):
            path = folder / "snapshots" / f"step-{int(item['step']):05d}.safetensors"
            if not path.is_file():
                continue
            network = load_network(recipe, len(record.phases), path)
            total = np.zeros((len(record.phases), len(record.phases)), np.int64)
            for image, labels in fields:
                soft, _ = predict_field([network], image, record.stride, record.halo_px)
                total += confusion_matrix(labels, soft[0].argmax(0).astype(np.uint8), len(record.phases))
            values = {name: float(item[name]) for name in CRITERIA}
            found.append(
                {"method": folder.parent.name, "fold": folder.name, "step": int(item["step"]), "miou": mean_iou(total)}
                | {"drifted": item["drifted"] == "True"} | values
            )  # fmt: skip
    return found


def _labelled(record: RunRecord, scored: Path) -> list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    from dataclasses import replace

    assert record.adaptation is not None
    domain = load_domain(scored)
    preparation = record.adaptation.target.preparation.model_copy(update={"tone": None})
    domain = replace(domain, preparation=domain.preparation_over(preparation))
    return [prepared_and_labels(field, domain, record.grid) for field in domain.training_fields]


def show(result: dict[str, Any]) -> None:
    """Print one line as soon as a row is finished."""
    decision = result["decision"]
    scores = f"{result['before']['miou']:.3f} -> {result['after']['miou']:.3f}" if "after" in result else "-"
    print(
        f"{result['case']}, {result['method']} {result['label']} seed {result['seed']}: {scores}, {decision['verdict']} "
        f"({decision['chosen']}), {result['minutes']:.1f} min",
        flush=True,
    )


if __name__ == "__main__":
    main()
