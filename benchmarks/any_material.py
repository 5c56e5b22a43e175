"""`--recipe auto` beside a hand-made recipe, a pixel forest and a plain U-Net: same labels, same folds, same cores.

`python -m benchmarks.any_material [--only SET ...] [--json FILE] [--arms ARM ...] [--seed N ...] [--minutes N] [--cores N]`
prints a table. SET is a name below or the path of a labelled domain. The file holds one entry for each set and in it one for
each arm; what it holds already is not trained again. Runs are kept in the folder `--runs`.

`auto` and `plain` take the minutes of the budget. The folds are those of `auto`, where it was trained, else five by group. A
set with a test set is scored there by the mean of all folds, any other by cross-validation. With few labels, the seed draws
the fields, and a forest learns from all of them; for `suggested`, the seed draws one, and `microseg suggest` chooses the others
with a run that learned from it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.any_material_peers import fit_forests, labelled_set, scored, train_plain_unets
from benchmarks.any_material_sets import CASES, Case, case_of, drawn_fields, few, prepared, write_pool, write_subset
from benchmarks.machine import machine, versions
from microseg.core.domains.domain import load_domain
from microseg.core.domains.folds import held_out_by, planned_split
from microseg.core.schemas.run import read_record
from microseg.core.system.files import write_json

ARMS = ("auto", "suggested", "hand_made", "forest", "plain")
FOLDS = 5
# How long a training took, in its run folder: a run without it was interrupted.
FINISHED = "benchmark.json"

Rows = dict[str, dict[str, Any]]


def main() -> None:
    """Train what is missing, score it, write each result at once, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="SET", default=list(CASES), help=f"{', '.join(CASES)}, or a path")
    parser.add_argument("--json", type=Path, help="file of results to continue")
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    parser.add_argument("--seed", type=int, nargs="+", help="0 by default, and 0 1 2 with few labels")
    parser.add_argument("--minutes", type=float, help="budget of a training; by default that of the set")
    parser.add_argument("--cores", type=int, default=2, help="processors that all arms share")
    parser.add_argument("--runs", type=Path, default=Path("runs/any-material"), help="folder for runs and made domains")
    options = parser.parse_args()
    _share_cores(options.cores)
    rows: Rows = {}
    for text in options.only:
        case = case_of(text)
        budget = options.minutes or case.minutes
        for arm in (arm for arm in options.arms if arm in case.arms):
            for seed in options.seed or case.seeds:
                rows = add_row(rows, case, arm, seed, budget, runs=options.runs, kept=options.json)
    Console(width=150).print(table(rows))


def _share_cores(cores: int) -> None:
    """Bind this process and those that it starts to some processors, without a GPU."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def add_row(
    rows: Rows, case: Case, arm: str, seed: int, budget: float, *, runs: Path, kept: Path | None = None
) -> Rows:
    """The results with one training more, unless they hold it.

    Args:
        rows: The results so far, where no file keeps them.
        case: The set.
        arm: What is trained.
        seed: Seed of what is drawn.
        budget: Minutes to train.
        runs: Folder for runs.
        kept: The file of results; it is read again, since another process may have added to it.

    Raises:
        SystemExit: The file holds the arm with another budget.
    """
    if kept is not None and kept.is_file():
        rows = json.loads(kept.read_text(encoding="utf-8"))
    entry = rows.setdefault(case.name, {})
    each = {run["seed"]: run for run in entry.get(arm, {}).get("runs", [])}
    if (found := each.get(seed)) is not None:
        if found["budget_minutes"] != budget:
            raise SystemExit(
                f"{kept}: {case.name}, {arm} has a budget of {found['budget_minutes']:g} min, not {budget:g}. "
                "Remedy: another --json."
            )
        return rows
    print(f"{case.name}, {arm}, seed {seed}, {budget:g} min", flush=True)
    ready = with_suggested(case, seed, budget, runs) if arm == "suggested" else prepared(case, seed, runs)
    each[seed] = trained(ready, arm, seed, budget, _run(runs, case, arm, budget, seed), entry)
    entry[arm] = summary([each[seed] for seed in sorted(each)])
    if kept is not None:
        write_json(kept, rows)
    return rows


def trained(case: Case, arm: str, seed: int, budget: float, run: Path, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Train an arm and score it.

    Args:
        case: The set, with all its files.
        arm: What is trained.
        seed: Seed of what is drawn.
        budget: Minutes to train.
        run: The run folder of a recipe.
        entry: What is known of the set's other arms; their folds are taken.

    Returns:
        `miou`, `iou`, `fraction_error`, `minutes`, `folds` and what led to them.
    """
    from microseg.train.analysis.evaluate import evaluate_run

    is_auto = arm in ("auto", "suggested")
    held_out = {} if case.labelled or is_auto else held_out_by_name(case, seed, entry)
    about: dict[str, Any] = {}
    if is_auto or arm == "hand_made":
        by_hand = ["--recipe", case.hand_made, "--folds", max(held_out.values(), default=0) + 1]
        chosen = _auto(case, budget) if is_auto else by_hand
        minutes = train(case, run, seed, *chosen)
        record = read_record(run)
        held_out, models = {field.name: field.fold for field in record.fields}, record.folds
        score: Callable[[Path], dict[str, Any]] = partial(evaluate_run, run)
    else:
        data = labelled_set(case.source, held_out)
        fitted = fit_forests(data, seed) if arm == "forest" else train_plain_unets(data, budget, seed)
        minutes, about, models = fitted.minutes, fitted.about, data.folds
        score = partial(scored, fitted, data)
    # Of few labels, a peer's model has seen all: there is nothing to cross-validate.
    crossed = None if case.labelled else score(case.source)
    result = score(case.test) if case.test else crossed
    assert result is not None
    return {
        "seed": seed,
        "budget_minutes": budget,
        "minutes": minutes,
        **scores(result),
        "cross_validation_miou": crossed and crossed["miou"],
        "folds": models,
        "held_out": held_out,
        **about,
        "processor": machine()["processor"],
        "versions": versions("microseg", "torch", "segmentation-models-pytorch", "scikit-learn", "scikit-image"),
    }


def with_suggested(case: Case, seed: int, budget: float, runs: Path) -> Case:
    """A set with few labels: one field that the seed draws, and those that `microseg suggest` chooses after training on it.

    Args:
        case: The set.
        seed: Seed of what is drawn.
        budget: Minutes to train.
        runs: Folder for runs.
    """
    assert case.labelled is not None
    one = prepared(replace(case, name=few(1).name, labelled=1), seed, runs)
    run = _run(runs, one, "auto", budget, seed)
    train(one, run, seed, *_auto(one, budget))
    pool, chosen = runs / case.name / "pool", runs / case.name / f"chosen-{budget:g}min-{seed}"
    by_file = write_pool(case.source, pool)
    if chosen.exists():
        shutil.rmtree(chosen)
    microseg("suggest", run, pool, "--n", case.labelled - 1, "--out", chosen)
    found = json.loads((chosen / "suggest.json").read_text(encoding="utf-8"))["fields"]
    names = [*drawn_fields(case.source, 1, seed), *(by_file[item["field"]] for item in found)]
    folder = runs / case.name / f"labelled-suggested-{seed}"
    write_subset(case.source, names, folder)
    return replace(case, source=folder)


def _run(runs: Path, case: Case, arm: str, budget: float, seed: int) -> Path:
    return runs / case.name / f"{arm}-{budget:g}min-{seed}"


def _auto(case: Case, budget: float) -> list[object]:
    return ["--recipe", "auto", "--minutes", f"{budget:g}", *(["--folds", case.folds] if case.folds else [])]


def train(case: Case, run: Path, seed: int, *arguments: object) -> float:
    """`microseg train supervised` in a process of its own. Returns the minutes that it took, also of a run that is finished."""
    finished = run / FINISHED
    if not finished.is_file():
        if run.exists():
            # What was interrupted is trained again: its minutes would not be those of one training.
            run.rename(run.with_name(f"{run.name}-interrupted-{time.time_ns()}"))
        command = ["train", "supervised", case.source, *arguments, "--seed", seed, "--out", run]
        started = time.monotonic()
        microseg(*command)
        write_json(finished, {"minutes": (time.monotonic() - started) / 60})
    minutes: float = json.loads(finished.read_text(encoding="utf-8"))["minutes"]
    return minutes


def microseg(*arguments: object) -> None:
    """Run a command of microseg. Raises SystemExit where it fails."""
    words = [str(argument) for argument in arguments]
    print(" ".join(["microseg", *words]), flush=True)
    if status := subprocess.run([sys.executable, "-m", "microseg", *words], check=False).returncode:
        raise SystemExit(f"microseg {' '.join(words)}: exit status {status}")


def held_out_by_name(case: Case, seed: int, entry: Mapping[str, Any]) -> dict[str, int]:
    """The fold that holds each field out: that of `auto`, else of any arm that was trained, else by group.

    Args:
        case: The set.
        seed: Seed whose runs come first.
        entry: The set's arms so far.

    Returns:
        The fold by the field's name.

    Raises:
        SystemExit: There is a single field.
    """
    fields = load_domain(case.source).training_fields
    names = {field.name for field in fields}
    arms = sorted(entry, key=lambda arm: arm != "auto")
    runs = sorted((run for arm in arms for run in entry[arm]["runs"]), key=lambda run: run["seed"] != seed)
    for run in runs:
        held_out: dict[str, int] = run["held_out"]
        if held_out.keys() == names and min(held_out.values()) >= 0:
            return held_out
    groups = [field.group for field in fields]
    plan = planned_split(groups, case.folds or FOLDS)
    folds = held_out_by(plan.split, groups, plan.folds)
    if min(folds) < 0:
        raise SystemExit(
            f"{case.source}: has one labelled field, and the peers hold out whole fields. Remedy: two or more."
        )
    return {field.name: fold for field, fold in zip(fields, folds, strict=True)}


def scores(result: Mapping[str, Any]) -> dict[str, Any]:
    """What of an evaluation is kept. `fraction_error`: mean absolute error over the fields, 0-1."""
    return {
        "miou": result["miou"],
        "miou_interval": result["spread"]["miou"],
        "iou": result["iou"],
        "fraction_error": {phase: item["error"] for phase, item in result["fractions"].items()},
        "fields": {field["name"]: field["miou"] for field in result["fields"]},
    }


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """The means over the seeds of an arm, and each of them."""
    return {
        "miou": fmean(run["miou"] for run in runs),
        "iou": _means([run["iou"] for run in runs]),
        "fraction_error": _means([run["fraction_error"] for run in runs]),
        "minutes": fmean(run["minutes"] for run in runs),
        "folds": runs[0]["folds"],
        "seed": [run["seed"] for run in runs],
        "runs": runs,
    }


def _means(each: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The mean of each phase; None where no run has a value."""
    known = {phase: [value for values in each if (value := values[phase]) is not None] for phase in each[0]}
    return {phase: fmean(values) if values else None for phase, values in known.items()}


def table(rows: Rows) -> Table:
    """One row for each set and arm."""
    shown = Table(title="Same labels, same folds, same cores; native grid", title_justify="left")
    for column in ("set", "arm"):
        shown.add_column(column)
    for column in ("mIoU", "by seed", "IoU of each phase", "fraction error, points", "folds", "min"):
        shown.add_column(column, justify="right")
    for name, entry in rows.items():
        for arm, item in entry.items():
            shown.add_row(
                name,
                arm,
                f"{item['miou']:.3f}",
                ", ".join(f"{run['miou']:.3f}" for run in item["runs"]),
                "\n".join(f"{phase} {_cell(value)}" for phase, value in item["iou"].items()),
                "\n".join(f"{phase} {_points(value)}" for phase, value in item["fraction_error"].items()),
                str(item["folds"]),
                f"{item['minutes']:.1f}",
            )
    return shown


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _points(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


if __name__ == "__main__":
    main()
