"""`microseg train supervised`: a labelled domain and a recipe to a run folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microseg.cli.progress import is_first_rank, training_progress
from microseg.core.plain_text import plain, plain_name

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.train.api import Run
    from microseg.train.supervised.label_curve import LabelCurve


def supervised(
    domain: Annotated[Path, typer.Argument(help="Labelled domain: a folder, or a YAML file that describes one.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="Name of a shipped recipe, or a YAML file.", show_default="auto, or that of --init"),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(help="Finished run to continue, adapted or not. Its labelled domain makes half of the tiles."),
    ] = None,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Unlabelled micrographs of the same kind to learn from, kept if held-out labels gain."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Run folder to write.", show_default="runs/DOMAIN-RECIPE; auto: runs/DOMAIN-supervised"),
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds of the cross-validation, by group.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that train.", show_default="one for each GPU")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.5, help="Budget of --recipe auto.", show_default="30 without a GPU, 60 with one"),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    label_curve: Annotated[
        bool,
        typer.Option(
            "--label-curve", help="Train again with 25 % and 50 % of the labels, to show what more would gain."
        ),
    ] = False,
) -> None:
    """Train one network for each fold. Each is scored on the whole fields that its fold holds out."""
    from microseg.cli.look.fingerprint_table import print_fingerprint
    from microseg.cli.tables import output_console, say
    from microseg.train.api import train_supervised

    console, begun = output_console(), time.monotonic()
    console.quiet = not is_first_rank()
    with training_progress() as on_fold:
        run = train_supervised(
            domain, recipe=recipe, out=out, folds=folds, seed=seed, settings=settings, init=init, resume=resume,
            unlabelled=unlabelled, workers=workers, minutes=minutes, progress=on_fold,
            on_trial=lambda number: on_fold(number, "trial"),
            on_fingerprint=lambda found: print_fingerprint(console, found),
            notice=lambda text: say(console, f"{plain(text)}."),
        )  # fmt: skip
    _print(console, run, init, (time.monotonic() - begun) / 60)
    if label_curve:
        from microseg.train.supervised.label_curve import run_label_curve

        with training_progress("fold {task.fields[fold]}, fewer labels") as on_fold:
            curve = run_label_curve(domain, run.path, on_fold, workers)
        _print_curve(console, curve, run.path)
    say(console, f"Next: microseg export {run.path} --out bagged.onnx")


def _print(console: Console, run: Run, init: Path | None, minutes: float) -> None:
    from microseg.cli.tables import TextTable, say, score_cell
    from microseg.core.preparation.wording import domain_pixel_size_text

    summary = run.summary
    phases = list(summary.folds[0].iou)
    table = TextTable("IoU on held-out fields", ["fold"], [*map(plain_name, phases), "mIoU"])
    for info in summary.folds:
        table.add(str(info.index), *(score_cell(info.iou[phase]) for phase in phases), f"{info.miou:.3f}")
    spread = [f"{score_cell(summary.iou_mean[p])} ± {score_cell(summary.iou_std[p])}" for p in phases]
    table.add("mean ± std", *spread, f"{summary.miou_mean:.3f} ± {summary.miou_std:.3f}", style="bold")
    table.print(console)
    if run.evaluation is not None:
        _print_evaluation(console, run.evaluation)
    say(console, f"Run: {run.path} ({minutes:.1f} min). Learning curves: {run.path / 'history.png'}")
    say(console, f"Pixel size of the fields: {plain_name(domain_pixel_size_text(run.record.domain))}")
    if summary.earlier_miou is not None:
        say(console, f"On held-out fields of the domain of {init}: mIoU {summary.earlier_miou:.3f}")


def _print_evaluation(console: Console, scores: dict[str, Any]) -> None:
    """What to expect of new fields: IoU with its spread over fields, and the error of each fraction."""
    from microseg.cli.tables import TextTable, percent_cell, score_cell

    table = TextTable(
        "All held-out fields, native grid (95 %: bootstrap over fields; error: mean absolute error of a field)",
        ["phase"],
        ["IoU", "95 %", "true %", "found %", "error, points"],
    )
    has_spread = len(scores["fields"]) > 1
    spread = scores["spread"]
    for phase, value in scores["iou"].items():
        fraction = scores["fractions"][phase]
        table.add(
            plain_name(phase),
            score_cell(value),
            _range(spread["iou"][phase] if has_spread else None),
            *(percent_cell(fraction[key], digits) for key, digits in (("true", 1), ("predicted", 1), ("error", 2))),
        )
    table.add(
        "mIoU", score_cell(scores["miou"]), _range(spread["miou"] if has_spread else None), "", "", "", style="bold"
    )
    table.print(console)


def _range(ends: list[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _print_curve(console: Console, curve: LabelCurve, run: Path) -> None:
    from microseg.cli.tables import TextTable, say

    table = TextTable("mIoU on held-out fields by labels", [], ["labels", "fields", "mIoU"])
    for point in curve.points:
        score = f"{point.miou_mean:.3f} ± {point.miou_std:.3f}"
        table.add(f"{100 * point.share:.0f} %", f"{point.fields:g}", score)
    table.print(console)
    say(console, f"{curve.verdict} Plot: {run / 'labels.png'}")
