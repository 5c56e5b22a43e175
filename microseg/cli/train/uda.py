"""`microseg train uda`: a supervised run and unlabelled micrographs to an adapted run, with a verdict."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.cli.progress import training_progress

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.schemas.run import RunSummary

METHODS = (
    "auto", "normalise", "statistics", "adaptsegnet", "advent", "minent", "fda", "dacs", "mic", "intrada", "dast", "source",
)  # fmt: skip


def uda(
    target: Annotated[Path, typer.Option(help="Unlabelled micrographs: a folder, or a YAML file that describes one.")],
    source: Annotated[
        Path | None,
        typer.Option(help="Supervised run, or a labelled domain to find its run.", show_default="newest in runs/"),
    ] = None,
    method: Annotated[str, typer.Option(help=f"{', '.join(METHODS[:-1])}; source is the control.")] = "auto",
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
        typer.Option(min=1e-6, max=1e6, help="Native pixel size, instead of what files or domain.yaml say."),
    ] = None,
    source_data: Annotated[
        Path | None, typer.Option(help="The source run's labelled domain, where it has moved.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=1, help="Adapt the first folds alone.", show_default="all")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Processes that train.", show_default="one for each GPU, else for each processor"),
    ] = None,
    control: Annotated[
        bool,
        typer.Option(help="Train as long on the source alone as well, which a gain is stated against."),
    ] = True,
    oracle: Annotated[
        bool, typer.Option("--oracle", help="For studies: target labels choose, and the run says so.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Adapt to a new etchant, microscope or modality without a label, and say whether to."""
    from rich.console import Console

    from microseg.core.domains.domain import load_domain
    from microseg.core.errors import InputError
    from microseg.train.recipe_files import load_uda_recipe

    if method not in METHODS:
        raise InputError(f"--method {method}: no such method. Remedy: one of {', '.join(METHODS)}.")
    name, loaded = load_uda_recipe(recipe or f"uda-{method}", settings or [], seed=seed)
    trains = {loaded.method.kind, "mic"} if loaded.mic is not None else {loaded.method.kind}
    if method not in {"auto", *trains}:
        raise InputError(
            f"--method {method}: the recipe {name} is one of {loaded.method.kind}. Remedy: --method {loaded.method.kind}."
        )
    console = Console()
    runs = Path("runs")
    run = out or runs / f"{load_domain(target, masks=False).name}-{method}"

    from microseg.train.common.run_folder import begun_with, newest_supervised_run

    if source is None or not (source / "run.yaml").is_file():
        begun = begun_with(run, source) if resume else None
        source = begun or newest_supervised_run(runs, trained_on=source)
        console.print(f"Source: {source}", soft_wrap=True, highlight=False, markup=False)

    from microseg.train.uda.command import run_uda

    with training_progress() as on_fold:
        summary = run_uda(
            target, source, name, loaded, run, resume=resume, auto=method == "auto", invert=invert,
            pixel_size_um=pixel_size_um, source_data=source_data, folds=folds, oracle=oracle, control=control, on_fold=on_fold,
            notice=lambda text: console.print(f"note: {text}", soft_wrap=True, highlight=False, markup=False),
            workers=workers,
        )  # fmt: skip
    _print(console, summary, run)


def _print(console: Console, summary: RunSummary, run: Path) -> None:
    from rich.markup import escape
    from rich.table import Table

    from microseg.train.uda.verdict import told_choice

    found = summary.adaptation
    assert found is not None
    table = Table(title="Without labels of the target", title_justify="left")
    phases = list(found.candidates[0].fractions)
    for column in ("", "trust", "folds agree", "source mIoU", *(f"{escape(phase)} %" for phase in phases), "min"):
        table.add_column(column, justify="left" if not column else "right")
    for item in found.candidates:
        table.add_row(
            item.name, f"{item.trust:.3f}", f"{item.fold_agreement:.3f}", f"{item.source_miou:.3f}",
            *(f"{100 * item.fractions[phase]:.1f}" for phase in phases), f"{item.minutes:.1f}",
            style="bold" if item.name == found.chosen else None,
        )  # fmt: skip
    if found.otsu is not None:
        table.add_row("Otsu's threshold", "", "", "", *(f"{100 * found.otsu[phase]:.1f}" for phase in phases), "")
    console.print(table)
    for item in found.candidates:
        for warning in item.warnings:
            console.print(f"{item.name}, {warning}", soft_wrap=True, highlight=False, markup=False)
    console.print(
        f"Verdict: [bold]{found.verdict}[/]. In the run: {told_choice(found.chosen)}. Why: {escape(found.evidence)}.",
        soft_wrap=True, highlight=False,
    )  # fmt: skip
    if found.oracle:
        console.print("Target labels chose: for studies only.", style="bold red")
    if found.to_label:
        console.print(f"Label these first: {', '.join(found.to_label)}", soft_wrap=True, highlight=False, markup=False)
    text = f"Run: {run}\nNext: microseg export {shlex.quote(str(run))} --out bagged.onnx"
    console.print(text, soft_wrap=True, highlight=False, markup=False)
