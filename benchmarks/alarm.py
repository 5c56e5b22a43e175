"""Whether the alarm of an engine predicts the error of a field: on kinds of corruption that its calibration left out.

`python -m benchmarks.alarm [--json FILE] [--engines N] [--home N] [--fields N] [--seed N] [--runs FOLDER]`. Engines of the
synthetic domain S are trained on different labelled fields (recipe demo). For each kind of corruption the alarm is calibrated
without it; then fresh fields get that corruption, at a level that is drawn. An error is large where it is beyond 2 points and
beyond its 95 % quantile on fresh fields at home. The area under the curve is that of the predicted error, over fields of the
kind and as many fields at home, both of all fractions. T1, T2 and T3 never take part in a calibration. False alarms are fresh
fields at home that are not `known`. With --runs FOLDER and the same --seed, a run that was stopped goes on: the figures of a
finished engine stay there in `judged.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, versions
from microseg.core.alarm.calibrate import CalibrationPart, calibrated
from microseg.core.alarm.corruptions import KINDS, corrupted
from microseg.core.alarm.measures import FieldProbe
from microseg.core.alarm.predict import FieldJudge
from microseg.core.alarm.schema import Alarm
from microseg.core.domains.domain import load_domain, prepared_and_labels
from microseg.core.schemas.run import read_run
from microseg.core.system.files import write_json
from microseg.export.alarm_calibration import calibration_parts
from microseg.export.calibration_fields import evenly
from microseg.export.onnx_export import export_run
from microseg.export.progress import SilentProgress
from microseg.runtime import Engine, open_engine
from microseg.synthetic.folder import write_domain
from microseg.train.recipe_files import load_recipe
from microseg.train.supervised.command import run_supervised

RECIPE, SOURCE, FOREIGN = "demo", "s", ("t1", "t2", "t3")
FRACTIONS = (0.2, 0.35, 0.5, 0.65, 0.8)
FIELD_UM = 448 * 0.0277
LEAST_ERROR, FEWEST = 0.02, 50


@dataclass(frozen=True)
class Judged:
    """A fresh field.

    Attributes:
        error: absolute error of its fractions after correction, 0-1.
        predicted: the predicted error, 0-1.
        level: the verdict.
    """

    error: float
    predicted: float
    level: str


def main() -> None:
    """Train, judge fresh fields, print the table and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument("--engines", type=int, default=5, help="trainings on different labelled fields (default: 5)")
    parser.add_argument("--labelled", type=int, default=8, help="labelled fields of a training (default: 8)")
    parser.add_argument("--home", type=int, default=500, help="fresh fields at home, over all engines (default: 500)")
    parser.add_argument(
        "--fields",
        type=int,
        default=300,
        help="fields of a kind, over all engines, at most those at home (default: 300)",
    )
    parser.add_argument("--seed", type=int, help="repeats a run that printed it (default: drawn)")
    parser.add_argument("--runs", type=Path, help="folder for domains, runs and engines (default: a temporary one)")
    options = parser.parse_args()
    seed = int.from_bytes(os.urandom(3), "big") if options.seed is None else options.seed
    console = Console(width=100)
    console.print(f"seed {seed}")
    with tempfile.TemporaryDirectory(prefix="microseg-alarm-") as folder:
        runs = options.runs or Path(folder)
        judged: dict[str, list[Judged]] = {}
        for number in range(options.engines):
            counts = options.home // options.engines, options.fields // options.engines
            for kind, found in kept(runs / str(number), seed + 1000 * number, options.labelled, counts).items():
                judged.setdefault(kind, []).extend(found)
            console.print(f"engine {number + 1} of {options.engines}")
    figures = figures_of(judged)
    console.print(table(figures))
    console.print(f"false alarms on {figures['home_fields']} fresh fields at home: {figures['false_alarm_rate']:.3f}")
    if options.json:
        setting = {"seed": seed, "engines": options.engines, "labelled": options.labelled}
        write_json(options.json, figures | {"setting": setting, "machine": machine(), "versions": versions("microseg")})


def kept(folder: Path, seed: int, labelled: int, counts: tuple[int, int]) -> dict[str, list[Judged]]:
    """What `of_engine` finds; from `judged.json` in the folder where the same settings were judged before."""
    path, setting = folder / "judged.json", {"seed": seed, "labelled": labelled, "counts": list(counts)}
    if path.is_file() and (stored := json.loads(path.read_text(encoding="utf-8")))["setting"] == setting:
        return {kind: [Judged(**field) for field in fields] for kind, fields in stored["judged"].items()}
    judged = of_engine(folder, seed, labelled, counts)
    found = {kind: [asdict(field) for field in fields] for kind, fields in judged.items()}
    write_json(path, {"setting": setting, "judged": found})
    return judged


def of_engine(folder: Path, seed: int, labelled: int, counts: tuple[int, int]) -> dict[str, list[Judged]]:
    """Train an engine and judge fresh fields.

    Args:
        folder: place of domains, run and engine.
        seed: of the labelled and the fresh fields.
        labelled: number of labelled fields.
        counts: fresh fields at home and of each kind.

    Returns:
        Judged fields by kind; those at home under "home".
    """
    run, model = folder / "run", folder / "bagged.onnx"
    if not model.is_file():
        source = folder / "source"
        write_domain(source, SOURCE, labelled, seed)
        run_supervised(source, RECIPE, load_recipe(RECIPE)[1], run, resume=True)
        export_run(run, model)
    parts = calibration_parts(read_run(run)[0], model, SilentProgress())
    with open_engine(model, runtime="onnxruntime", device="cpu") as engine:
        whole = _required(calibrated(parts, SOURCE))
        fresh = list(fresh_fields(folder / "fresh", SOURCE, counts[0], seed + 1, engine))
        found = {"home": [judged(engine, whole, *field) for field in fresh]}
        drawn = np.random.default_rng(seed)
        for kind, levels in KINDS.items():
            without = alarm_without(parts, kind)
            # They are ordered by fraction.
            chosen = evenly(fresh, counts[1])
            changed = [
                corrupted(*field, kind, float(drawn.choice(levels)), int(drawn.integers(1 << 31))) for field in chosen
            ]
            found[kind] = [judged(engine, without, each.image, each.labels) for each in changed]
        for domain in FOREIGN:
            fields = fresh_fields(folder / domain, domain, counts[1], seed + 2, engine)
            found[domain] = [judged(engine, whole, *field) for field in fields]
        found["noise images"] = [
            judged(engine, whole, drawn.integers(0, 256, image.shape, np.uint8), labels)
            for image, labels in evenly(fresh, 20)
        ]
    return found


def fresh_fields(
    folder: Path, domain: str, count: int, seed: int, engine: Engine
) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Image and labels of fresh fields on the network's grid; their mean fractions are those of FRACTIONS in turn."""
    stride = engine.manifest.stride
    for index, fraction in enumerate(FRACTIONS):
        number = (count + len(FRACTIONS) - 1 - index) // len(FRACTIONS)
        if not number:
            continue
        place = folder / f"{fraction:g}"
        write_domain(place, domain, number, seed + 10 * index, field_um=(FIELD_UM, FIELD_UM), fraction=fraction)
        known = load_domain(place)
        for field in known.fields:
            image, labels = prepared_and_labels(field, known, engine.manifest.grid)
            cut = tuple(slice(0, side // stride * stride) for side in image.shape)
            yield np.ascontiguousarray(image[cut]), np.ascontiguousarray(labels[cut])


def alarm_without(parts: Sequence[CalibrationPart], kind: str) -> Alarm:
    """The alarm that never saw a kind of corruption."""
    return _required(calibrated([part for part in parts if part.kind != kind], SOURCE))


def judged(engine: Engine, alarm: Alarm, image: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Judged:
    """What an alarm says of a field, and the error of the field's fractions after the correction of the calibration."""
    output = engine.run(image[None, None], features=True)
    phases = len(engine.manifest.phases)
    probe = FieldProbe(phases, len(engine.manifest.folds))
    assert output.features is not None
    probe.add(image, output.labels[0], output.votes[0], output.features[0])
    measures = probe.measures()
    assert measures is not None
    said = FieldJudge(alarm).judge(measures)
    found, true = (
        np.bincount(each.ravel(), minlength=phases)[:phases] / each.size for each in (output.labels[0], labels)
    )
    return Judged(float(np.abs(found - alarm.bias - true).max()), said.predicted_error, said.level)


def figures_of(judged: dict[str, list[Judged]]) -> dict[str, Any]:
    """Areas under the curve by kind, and the rate of false alarms.

    `auroc_of_the_kind` is what a score reaches that tells the kind from home and knows nothing else.
    """
    home = judged["home"]
    limit = max(LEAST_ERROR, float(np.quantile([each.error for each in home], 0.95)))
    kinds: dict[str, dict[str, Any]] = {}
    for kind, fields in judged.items():
        if kind == "home":
            continue
        both = [*fields, *evenly(home, len(fields))]
        large = [each.error > limit for each in both]
        kinds[kind] = {
            "auroc": auroc([each.predicted for each in both], large),
            "auroc_of_the_kind": auroc([float(index < len(fields)) for index in range(len(both))], large),
            "auroc_within": auroc([each.predicted for each in fields], [each.error > limit for each in fields]),
            "large": sum(large),
            "small": len(large) - sum(large),
            "enough": FEWEST <= sum(large) <= len(large) - FEWEST,
            "raised": float(np.mean([each.level != "known" for each in fields])),
            "missed": float(np.mean([each.level == "known" for each in fields if each.error > limit] or [False])),
        }
    return {
        "auroc_error": {kind: each["auroc"] for kind, each in kinds.items()},
        "enough_fields": {kind: each["enough"] for kind, each in kinds.items()},
        "false_alarm_rate": float(np.mean([each.level != "known" for each in home])),
        "home_fields": len(home),
        "error_limit": limit,
        "kinds": kinds,
    }


def auroc(scores: Sequence[float], large: Sequence[bool]) -> float | None:
    """Probability that a large error has the larger score (Mann-Whitney); None where there is only one side."""
    is_large = np.array(large)
    if is_large.all() or not is_large.any():
        return None
    values = np.array(scores)
    differences = values[is_large][:, None] - values[~is_large][None]
    return float((differences > 0).mean() + 0.5 * (differences == 0).mean())


def table(figures: dict[str, Any]) -> Table:
    """The figures of each kind."""
    found = Table(title=f"Error beyond {100 * figures['error_limit']:.1f} points", title_justify="left")
    for column in ("kind left out", "AUROC", "the kind alone", "within the kind", "large / small", "raised", "missed"):
        found.add_column(column, justify="left" if column == "kind left out" else "right")
    for kind, each in figures["kinds"].items():
        shown = [
            "-" if each[key] is None else f"{each[key]:.3f}" for key in ("auroc", "auroc_of_the_kind", "auroc_within")
        ]
        rates = [f"{each[key]:.2f}" for key in ("raised", "missed")]
        found.add_row(kind, *shown, f"{each['large']} / {each['small']}", *rates)
    return found


def _required(alarm: Alarm | None) -> Alarm:
    if alarm is None:
        raise SystemExit("too few labelled fields for an alarm. Remedy: --labelled 5 or more")
    return alarm


if __name__ == "__main__":
    main()
