"""`microseg train uda`: a supervised run and unlabelled micrographs to an adapted run, with a verdict."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.cli.measure.options import micrometres
from microseg.cli.progress import training_progress
from microseg.core.plain_text import plain, plain_name
from microseg.train import ADAPTATION_METHODS

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.schemas.run import Adaptation
    from microseg.train.api import Run


def uda(
    target: Annotated[Path, typer.Option(help="Unlabelled micrographs: a folder, or a YAML file that describes one.")],
    source: Annotated[
        Path | None,
        typer.Option(
            help="Supervised run, or the labelled domain that it was trained on.", show_default="newest in runs/"
        ),
    ] = None,
    method: Annotated[str, typer.Option(help=f"{', '.join(ADAPTATION_METHODS[:-1])}; source is the control.")] = "auto",
    recipe: Annotated[
        str | None, typer.Option(help="Name of a shipped recipe, or a YAML file.", show_default="uda-METHOD")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write.", show_default="runs/TARGET-METHOD")] = None,
    invert: Annotated[
        bool | None, typer.Option("--invert/--no-invert", help="Invert grey values (bright field), or do not.")
    ] = None,
    pixel_size_um: Annotated[
        float | None,
        typer.Option(
            parser=micrometres, metavar="UM", help="Native pixel size in um, instead of the files' and domain.yaml's."
        ),
    ] = None,
    source_data: Annotated[
        Path | None, typer.Option(help="The source run's labelled domain, where it has moved.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="Adapt the first folds only.", show_default="all")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train.", show_default="one for each GPU, else for each processor"),
    ] = None,
    control: Annotated[
        bool,
        typer.Option(help="Train equally long on the source alone as well. Gains are measured against it."),
    ] = True,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="For studies: target labels choose, and the run records it.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Adapt networks to a new etchant, microscope or modality without labels, and decide whether to use them."""
    from microseg.cli.tables import output_console, say
    from microseg.train.api import train_uda

    console = output_console()
    with training_progress() as on_fold:
        run = train_uda(
            target, run=source, method=method, recipe=recipe, out=out, folds=folds, seed=seed, settings=settings,
            invert=invert, pixel_size_um=pixel_size_um, source_data=source_data, control=control, oracle=oracle,
            resume=resume, workers=workers, progress=on_fold,
            notice=lambda text: say(console, f"note: {plain(text)}"),
        )  # fmt: skip
    _print(console, run)


def _print(console: Console, run: Run) -> None:
    from rich.markup import escape

    from microseg.cli.tables import TextTable, say
    from microseg.train.uda.verdict import chosen_sentence

    found, adapted = run.summary.adaptation, run.record.adaptation
    assert found is not None and adapted is not None
    target = adapted.target_source
    phases = list(found.candidates[0].fractions)
    columns = ["self-consistency", "folds agree", "source mIoU", *(f"{plain_name(phase)} %" for phase in phases), "min"]
    table = TextTable("Without labels of the target", [""], columns)
    for item in found.candidates:
        table.add(
            item.name, f"{item.self_consistency:.3f}", f"{item.fold_agreement:.3f}", f"{item.source_miou:.3f}",
            *(f"{100 * item.fractions[phase]:.1f}" for phase in phases), f"{item.minutes:.1f}",
            style="bold" if item.name == found.chosen else "",
        )  # fmt: skip
    if found.otsu is not None:
        table.add("Otsu's threshold", "", "", "", *(f"{100 * found.otsu[phase]:.1f}" for phase in phases), "")
    table.print(console)
    _print_fractions(console, found)
    for item in found.candidates:
        for warning in item.warnings:
            say(console, f"{item.name}, {warning}")
    why = escape(plain(found.evidence))
    console.print(
        f"Verdict: [bold]{found.verdict}[/]. The run holds {chosen_sentence(found.chosen)}. Why: {why}.",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    if found.oracle:
        console.print("Target labels chose the candidate: for studies only.", style="bold red", soft_wrap=True)
    if found.to_label:
        say(console, f"Label these first: {', '.join(map(plain_name, found.to_label))}")
        asked = shlex.join(
            ["microseg", "suggest", str(run.path), target, "--n", str(len(found.to_label)), "--out", "TODO"]
        )
        say(console, f"With predicted masks to correct: {plain_name(asked)}")
    say(console, f"Run: {run.path}\nNext: microseg export {shlex.quote(str(run.path))} --out bagged.onnx")


def _print_fractions(console: Console, found: Adaptation) -> None:
    """The estimates of the fractions, of the unadapted bag and of the one that the run holds."""
    from microseg.cli.tables import TextTable

    phases = list(found.candidates[0].fractions)
    columns = [*(f"{plain_name(phase)} %" for phase in phases), "apart", "limit"]
    table = TextTable("Fractions of the target, estimated in three ways", ["", "estimate"], columns)
    for item in found.candidates:
        if item.estimates is None or item.name not in (found.candidates[0].name, found.chosen):
            continue
        estimates = {"counted": item.fractions, "corrected": item.estimates.corrected, "EMQ": item.estimates.emq}
        for place, (name, values) in enumerate(estimates.items()):
            apart = (f"{100 * value:.1f}" for value in (item.estimates.disagreement, item.estimates.limit))
            table.add(
                "" if place else item.name, name, *(f"{100 * values[phase]:.1f}" for phase in phases),
                *(("", "") if place else apart), ends_section=name == "EMQ",
            )  # fmt: skip
    if table.rows:
        table.print(console)
