"""Students beside their bags: a supervised bag of real micrographs, one of synthetic S, and one adapted to T2.

`python -m benchmarks.distill [--json FILE] [--only superalloy S T2] [--superalloy RUN] [--uda FOLDER] [--runs FOLDER]`.
Bags and students that exist are scored again, not trained again. A bag comes from `benchmarks.real_data` or
`benchmarks.uda`. A student learns from the fields of its bag, and from the unlabelled fields of T2. Both are scored with
ONNX Runtime on fields that neither has seen. Times are those of the engine on the prepared field, bag and student in turn.
The student of S on T2 shows how much of the folds' spread remains on a domain that neither knows.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks import uda
from benchmarks.machine import machine, versions
from benchmarks.real_data import DATA
from microseg.core.domains.domain import load_domain
from microseg.core.evaluation.scoring import Prediction, evaluation, score_fields
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.tolerance import LIMITS, Precision
from microseg.core.system.files import write_json
from microseg.deploy.pipeline.tile_memory import max_tile_pixels
from microseg.export.onnx_export import export_run
from microseg.runtime import Engine, EngineFile, open_engine
from microseg.runtime.tiled_prediction import label_field
from microseg.train.distillation.command import run_distill
from microseg.train.recipe_files import load_distill_recipe, load_recipe, load_uda_recipe
from microseg.train.supervised.command import run_supervised
from microseg.train.uda.command import AdaptationOptions, run_uda

CASES = ("superalloy", "S", "T2")
REPEATS = 3
WHO = ("bag", "student")


@dataclass(frozen=True)
class Case:
    """A finished bag, the domains that its student learns from, and the labelled fields that score both.

    foreign: fields of a domain that neither knows.
    """

    bag: Path
    learned: list[Path]
    scored: Path
    foreign: Path | None = None


@dataclass(frozen=True)
class Seen:
    """The result of an engine on one field: area fractions (P,) of its labels and each fold (F, P), and where folds differ.

    seconds, cpu_seconds: of the engine alone, one value for each repeat.
    """

    fractions: NDArray[np.float64]
    folds: NDArray[np.float64]
    disputed: float
    seconds: list[float]
    cpu_seconds: list[float]


def main() -> None:
    """Train what is missing, score, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--superalloy", type=Path, default=Path("runs/superalloy-benchmark"), help="the bag's run")
    parser.add_argument("--uda", type=Path, default=Path("runs/uda-benchmark"), help="folder of `benchmarks.uda`")
    parser.add_argument("--runs", type=Path, default=Path("runs/distill-benchmark"), help="students and engines")
    parser.add_argument("--precision", choices=list(LIMITS), default="fp32", help="of both engines")
    parser.add_argument("--threads", type=int, help="of the engines; default: all")
    parser.add_argument(
        "--set", dest="settings", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe `distill`"
    )
    options = parser.parse_args()
    # Cases that are not asked for now keep their figures.
    is_there = options.json is not None and options.json.is_file()
    cases: dict[str, Any] = json.loads(options.json.read_text(encoding="utf-8"))["cases"] if is_there else {}
    packages = versions("microseg", "torch", "onnxruntime", "segmentation-models-pytorch", "numpy")
    for name in options.only:
        case = prepared(name, options.superalloy, options.uda)
        cases[name] = run_case(name, case, options.runs, options.precision, options.threads, options.settings)
        Console(width=200).print(table(cases))
        if options.json:
            write_json(options.json, {"machine": machine(), "versions": packages, "cases": cases})


def prepared(name: str, superalloy: Path, runs: Path) -> Case:
    """The bag of a case and its data. Trains the bag where it does not exist."""
    if name == "superalloy":
        recipe_name, recipe = load_recipe("superalloy")
        run_supervised(DATA / "superalloy.yaml", recipe_name, recipe, superalloy, resume=True)
        return Case(superalloy, [DATA / "superalloy.yaml"], DATA / "superalloy-test.yaml")
    case = uda.CASES["T2" if name == "T2" else "S other fields"]
    source, target, scored = uda.prepare(runs, case)
    assert scored is not None
    labelled = runs / "data" / "source"
    if name == "S":
        return Case(source, [labelled], scored, foreign=uda.prepare(runs, uda.CASES["T2"])[2])
    # As `benchmarks.uda` adapts it: to a bare folder.
    bag = runs / "runs" / uda.run_name(case, "auto", "", 0)
    recipe_name, adaptation = load_uda_recipe("uda-auto", ["keep_snapshots=true"], seed=0)
    run_uda(target / "images", source, recipe_name, adaptation, bag, AdaptationOptions(auto=True), resume=True)
    return Case(bag, [labelled, target / "images"], scored)


def run_case(
    name: str, case: Case, runs: Path, precision: Precision, threads: int | None, settings: Sequence[str]
) -> dict[str, Any]:
    """Distill, export and score one case. Uses what exists."""
    recipe_name, recipe = load_distill_recipe("distill", settings)
    student = runs / f"{name}-student"
    print(f"{name}: microseg distill {case.bag} {' '.join(map(str, case.learned))} --out {student}", flush=True)
    summary = run_distill(case.bag, case.learned, recipe_name, recipe, student, resume=True, notice=print)
    engines = {who: runs / f"{name}-{who}-{precision}.onnx" for who in WHO}
    for path, run in zip(engines.values(), (case.bag, student), strict=True):
        if not path.exists():
            export_run(run, path, precision=precision)
    scores, seen = scored(engines, case.scored, threads)
    names = list(scores["bag"]["iou"])
    elsewhere = {}
    if case.foreign is not None:
        found = compared(scored(engines, case.foreign, threads)[1], names)
        elsewhere["foreign"] = {key: found[key] for key in ("fields", "spread_points", "disputed_pixels")}
    assert summary.distillation is not None
    return {
        "recipe": recipe.model_dump(mode="json"),
        "train_seconds": summary.seconds,
        "distillation": summary.distillation.model_dump(mode="json"),
        "precision": precision,
        "threads": threads,
        "engine_sha256": {who: EngineFile(path).sha256 for who, path in engines.items()},
        **scores,
        **compared(seen, names),
        **elsewhere,
    }


def scored(
    engines: dict[str, Path], domain: Path, threads: int | None
) -> tuple[dict[str, Any], dict[str, dict[str, Seen]]]:
    """Scores of bag and student on labelled fields, and the results for each field. One pass, so that times compare."""
    opened = {who: open_engine(path, threads) for who, path in engines.items()}
    largest = {who: max_tile_pixels(opened[who].manifest, path.stat().st_size, None) for who, path in engines.items()}
    manifest = opened["bag"].manifest
    seen: dict[str, dict[str, Seen]] = {}
    kept: dict[str, Prediction] = {}

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        image = prepared.whole()
        times: dict[str, list[tuple[float, float]]] = {who: [] for who in opened}
        said = {}
        for _ in range(REPEATS):
            for who, engine in opened.items():
                begun = time.perf_counter(), time.process_time()
                said[who] = label_field(engine, image, largest[who])
                times[who].append((time.perf_counter() - begun[0], time.process_time() - begun[1]))
        seen[prepared.path.name] = {who: _seen(*said[who], opened[who], times[who]) for who in opened}
        trained_on = {field.sha256 for engine in opened.values() for field in engine.manifest.training_fields}
        assert sha256 not in trained_on, f"{prepared.path}: trained on"
        predictions = {
            who: Prediction(labels, dict(enumerate(votes)), seen=False) for who, (labels, votes) in said.items()
        }
        kept[sha256] = predictions["student"]
        return predictions["bag"]

    given = load_domain(domain)
    entry = manifest.domain()
    of_bag = score_fields(given, entry, manifest.grid, manifest.phases, predict)
    of_student = score_fields(given, entry, manifest.grid, manifest.phases, lambda _, sha256: kept[sha256])
    for engine in opened.values():
        engine.close()
    evaluations = {"bag": evaluation(of_bag, manifest.phases), "student": evaluation(of_student, manifest.phases)}
    return evaluations, seen


def _seen(
    labels: NDArray[np.uint8], votes: NDArray[np.uint8], engine: Engine, times: Sequence[tuple[float, float]]
) -> Seen:
    phases = len(engine.manifest.phases)

    def shares(of: NDArray[np.uint8]) -> NDArray[np.float64]:
        return np.bincount(of.ravel(), minlength=phases)[:phases] / of.size

    disputed = float((votes != votes[:1]).any(0).mean())
    wall, cpu = zip(*times, strict=True)
    return Seen(shares(labels), np.stack([shares(vote) for vote in votes]), disputed, list(wall), list(cpu))


def compared(seen: dict[str, dict[str, Seen]], phases: list[str]) -> dict[str, Any]:
    """Student against bag: fractions, spread of the folds, and time."""
    fields = list(seen.values())
    bags, students = [field["bag"] for field in fields], [field["student"] for field in fields]
    differences = np.array([s.fractions - b.fractions for b, s in zip(bags, students, strict=True)])
    spreads = {who: np.array([field[who].folds.std(0, ddof=1) for field in fields]) for who in WHO}
    pairs = {"ratio_of_seconds": "seconds", "ratio_of_cpu_seconds": "cpu_seconds"}
    ratios = {
        key: median(
            one / other
            for b, s in zip(bags, students, strict=True)
            for one, other in zip(getattr(b, name), getattr(s, name), strict=True)
        )
        for key, name in pairs.items()
    }
    return {
        "fields": list(seen),
        "difference_points": {
            phase: {
                "mean": 100 * float(differences[:, k].mean()),
                "largest": 100 * float(np.abs(differences[:, k]).max()),
            }
            for k, phase in enumerate(phases)
        },
        "spread_points": {
            phase: {who: 100 * float(spreads[who][:, k].mean()) for who in WHO}
            | {"correlation": _correlation(spreads["bag"][:, k], spreads["student"][:, k])}
            for k, phase in enumerate(phases)
        },
        "disputed_pixels": {who: fmean(field[who].disputed for field in fields) for who in WHO},
        "disputed_correlation": _correlation(
            np.array([b.disputed for b in bags]), np.array([s.disputed for s in students])
        ),
        "ms_per_field": {who: 1000 * median(t for field in fields for t in field[who].seconds) for who in WHO},
        "cpu_ms_per_field": {who: 1000 * median(t for field in fields for t in field[who].cpu_seconds) for who in WHO},
        **ratios,
    }


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float | None:
    """Pearson's correlation over fields; None where a value is constant."""
    if len(one) < 3 or not one.std() or not other.std():
        return None
    return float(np.corrcoef(one, other)[0, 1])


def table(cases: dict[str, Any]) -> Table:
    """One line for each case, with student and bag side by side."""
    shown = Table(title="Student beside its bag, on fields that neither has seen", title_justify="left")
    for column in (
        "fields of", "mIoU bag / student", "difference of fractions, points: mean (largest on a field)",
        "spread of the folds, points: bag / student (correlation)", "pixels on which folds differ, %",
        "ms per field", "times faster (CPU time)", "min to distill",
    ):  # fmt: skip
        shown.add_column(column)
    for name, case in cases.items():
        shown.add_row(
            f"{name} ({len(case['fields'])})",
            f"{case['bag']['miou']:.3f} / {case['student']['miou']:.3f}",
            "\n".join(
                f"{phase} {item['mean']:+.2f} ({item['largest']:.2f})"
                for phase, item in case["difference_points"].items()
            ),
            _spread(case) + ("\nelsewhere:\n" + _spread(case["foreign"]) if "foreign" in case else ""),
            _disputed(case) + ("\nelsewhere: " + _disputed(case["foreign"]) if "foreign" in case else ""),
            f"{case['ms_per_field']['bag']:.0f} / {case['ms_per_field']['student']:.0f}",
            f"{case['ratio_of_seconds']:.2f} ({case['ratio_of_cpu_seconds']:.2f})",
            f"{case['train_seconds'] / 60:.1f}",
        )
    return shown


def _spread(found: dict[str, Any]) -> str:
    return "\n".join(
        f"{phase} {item['bag']:.2f} / {item['student']:.2f}"
        + (f" ({item['correlation']:.2f})" if item["correlation"] is not None else "")
        for phase, item in found["spread_points"].items()
    )


def _disputed(found: dict[str, Any]) -> str:
    return " / ".join(f"{100 * found['disputed_pixels'][who]:.1f}" for who in WHO)


if __name__ == "__main__":
    main()
