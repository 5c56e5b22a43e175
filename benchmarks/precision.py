"""FP16 and INT8 engines against PyTorch in float32, on fields that neither training nor calibration has seen.

`python -m benchmarks.precision [--json FILE] [--only superalloy] [--precisions int8] [--run superalloy=FOLDER]
[--runs FOLDER]`. The bags are those of the shipped recipes; it trains those that do not exist. It exports engines as users do,
with `--calibrate` on the training domain, where the gate of the export accepts them. The figures come from the same gate
on the test fields, in the runtime that `segment` picks.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, versions
from benchmarks.real_data import CASES as REAL
from benchmarks.real_data import DATA
from benchmarks.uda import SCORED_SEED, SOURCE_FIELDS, SOURCE_SEED
from microseg.agreement.fidelity import nearest_limit
from microseg.core.errors import GateError
from microseg.core.schemas.fidelity import Fidelity
from microseg.core.schemas.run import read_run
from microseg.core.schemas.tolerance import Precision
from microseg.core.system.files import write_json
from microseg.export.calibration_fields import calibration_domain
from microseg.export.onnx_export import export_run
from microseg.export.precision.gate import PrecisionGate
from microseg.export.torch_graph.bag import load_folds, run_torch
from microseg.runtime import Engine, EngineFile, open_engine
from microseg.synthetic.folder import write_domain
from microseg.train.recipe_files import load_recipe
from microseg.train.supervised.command import run_supervised

PRECISIONS: tuple[Precision, ...] = ("fp16", "int8")
CASES = ("superalloy", "coating", "synthetic")
SCORED_FIELDS = 4


@dataclass(frozen=True)
class Domains:
    """The training domain of a bag, which calibrates too, and the fields that it is compared on."""

    trained: Path
    tested: Path


class AsSession:
    """An engine with the interface of an ONNX Runtime session."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def run(self, names: list[str], feeds: dict[str, NDArray[np.uint8]]) -> list[Any]:
        """The named outputs for the tiles."""
        found = self._engine.run(feeds["tiles"], features=True, probability=True)
        return [getattr(found, name) for name in names]


def main() -> None:
    """Export, compare, print one row for each engine, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--run", action="append", default=[], metavar="CASE=FOLDER", help="the bag of a case")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder for runs, engines and synthetic fields")
    options = parser.parse_args()
    given = {name: Path(folder) for name, _, folder in (item.partition("=") for item in options.run)}
    console = Console(width=150)
    # Engines that are not asked for now keep their figures.
    is_there = options.json is not None and options.json.is_file()
    results = json.loads(options.json.read_text(encoding="utf-8"))["cases"] if is_there else {}
    for name in options.only:
        found = run_case(name, options.runs, given.get(name), options.precisions, console)
        results[name] = found | {"engines": results.get(name, {}).get("engines", {}) | found["engines"]}
        _print(console, {name: results[name]})
        passed = [engine["passed"] for case in results.values() for engine in case["engines"].values()]
        if options.json:
            used = versions("microseg", "torch", "onnx", "onnxruntime", "openvino")
            write_json(
                options.json,
                {"all_within_the_gate": all(passed), "cases": results, "machine": machine(), "versions": used},
            )


def run_case(
    name: str, runs: Path, given: Path | None, precisions: Sequence[Precision], console: Console
) -> dict[str, Any]:
    """The engines of one bag, compared. Uses a run that exists."""
    domains = domains_of(name, runs)
    run = given or runs / f"{name}-benchmark"
    if given is None:
        recipe_name, recipe = load_recipe(name)
        console.print(f"{name}: microseg train supervised {domains.trained} --recipe {recipe_name} --out {run}")
        run_supervised(domains.trained, recipe_name, recipe, run, resume=True)
    record, summary = read_run(run)
    networks = load_folds(run, record, summary)
    gate = PrecisionGate(
        [calibration_domain(domains.tested, record)],
        [phase.name for phase in record.phases],
        stride=record.stride,
        halo_px=record.halo_px,
        torch=lambda pixels: run_torch(networks, pixels),
    )
    engines = {}
    for precision in precisions:
        path = runs / f"{name}-{precision}.onnx"
        path.unlink(missing_ok=True)
        console.print(f"{name}: microseg export {run} --precision {precision} --calibrate {domains.trained}")
        engines[precision] = _judged(path, run, domains, precision, gate)
    return {"bag": record.recipe_name, "folds": len(summary.folds), "engines": engines}


def domains_of(name: str, runs: Path) -> Domains:
    """The domains of a case. Writes the synthetic fields."""
    if name in REAL:
        trained, tested = REAL[name]
        return Domains(DATA / f"{trained}.yaml", DATA / f"{tested[0]}.yaml")
    fields = {"precision-s": (SOURCE_FIELDS, SOURCE_SEED), "precision-s-test": (SCORED_FIELDS, SCORED_SEED)}
    for folder, (count, seed) in fields.items():
        if not (runs / folder).exists():
            write_domain(runs / folder, "s", count, seed)
    return Domains(*(runs / folder for folder in fields))


def _judged(path: Path, run: Path, domains: Domains, precision: Precision, gate: PrecisionGate) -> dict[str, Any]:
    try:
        manifest = export_run(run, path, precision=precision, calibrate=domains.trained)
    except GateError as refused:
        return {"passed": False, "refused": str(refused)}
    with open_engine(path) as engine:
        found = {engine.config.runtime: gate.compare_session(AsSession(engine), precision)}
        runtime = f"{engine.config.runtime} {engine.version}"
    found["onnxruntime"] = gate.compare(onnx.load(path), precision)
    return {
        "passed": all(nearest_limit(each, precision).ratio <= 1 for each in found.values()),
        "runtime": runtime,
        "tested": {kind: _figures(each, precision) for kind, each in found.items()},
        "float32_layers": [layer.model_dump() for layer in manifest.float32_layers],
        "quantisation": manifest.quantisation and manifest.quantisation.model_dump(),
        "exported": [each.model_dump() for each in manifest.fidelity],
        "engine_sha256": EngineFile(path).sha256,
        "machine": machine(),
    }


def _figures(found: list[Fidelity], precision: Precision) -> dict[str, Any]:
    """The largest difference of every phase beside its limit, and the share of labels that differ."""
    (judged,) = found
    return {
        "nearest_to_its_limit": nearest_limit(found, precision).ratio,
        "which": nearest_limit(found, precision).text,
        "points": {
            phase: max(abs(field.engine_percent[phase] - field.torch_percent[phase]) for field in judged.fields)
            for phase in judged.limits_points
        },
        "limits_points": judged.limits_points,
        "label_disagreement": max(field.label_disagreement for field in judged.fields),
        "label_limit": judged.label_limit,
        "fold_disagreement": judged.fold_disagreement,
        "fields": [field.model_dump() for field in judged.fields],
    }


def _print(console: Console, results: dict[str, Any]) -> None:
    table = Table(
        title="Engines against float32 torch on the test fields: largest difference of a field", title_justify="left"
    )
    for column in (
        "bag",
        "precision",
        "runtime",
        "points of a phase (limit)",
        "labels (limit)",
        "float32 layers",
        "passed",
    ):
        table.add_column(column)
    for name, case in results.items():
        for precision, engine in case["engines"].items():
            if "refused" in engine:
                table.add_row(name, precision, "", engine["refused"], "", "", "no")
                continue
            bits = f", weights of {engine['quantisation']['weight_bits']} bits" if engine["quantisation"] else ""
            kept = [layer["layer"] for layer in engine["float32_layers"]]
            for runtime, figures in engine["tested"].items():
                points = "\n".join(
                    f"{phase} {value:.3f} ({figures['limits_points'][phase]:.3f})"
                    for phase, value in figures["points"].items()
                )
                labels = f"{100 * figures['label_disagreement']:.3f} % ({100 * figures['label_limit']:.1f} %)"
                passed = "yes" if figures["nearest_to_its_limit"] <= 1 else "NO"
                table.add_row(name, f"{precision}{bits}", runtime, points, labels, ", ".join(kept), passed)
    console.print(table)


if __name__ == "__main__":
    main()
