"""`microseg train supervised`: a labelled domain and a recipe to a run folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from microseg.cli.progress import is_first_rank, training_progress
from microseg.cli.train.uda import uda

app = typer.Typer(
    help="Train networks: supervised on a labelled domain; pre-train their encoders; adapt them without labels.",
    no_args_is_help=True,
)


@app.command()
def supervised(
    domain: Annotated[Path, typer.Argument(help="A labelled domain: a folder, or a YAML file that describes one.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="Name of a shipped recipe, or a YAML file.", show_default="synthetic, or that of --init"),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="A finished run, adapted or not, to continue with a few labels; what it knew stays in the mix."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder to write.", show_default="runs/DOMAIN-RECIPE")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds of the cross-validation, by group.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that train.", show_default="one for each GPU")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    label_curve: Annotated[
        bool,
        typer.Option(
            "--label-curve", help="Then train again with 25 % and 50 % of the labels: how far would more of them help?"
        ),
    ] = False,
) -> None:
    """Train one network per fold; each is scored on the whole fields of the fold that it did not see."""
    from rich.console import Console
    from rich.table import Table

    from microseg.core.domains.domain import load_domain
    from microseg.train.recipe_files import load_recipe, recipe_of_run

    if init is not None and recipe is None:
        name, loaded = recipe_of_run(init, settings or [], folds=folds, seed=seed)
    else:
        name, loaded = load_recipe(recipe or "synthetic", settings or [], folds=folds, seed=seed)
    run = out or Path("runs") / f"{load_domain(domain).name}-{name}"

    from microseg.train.common.run_folder import run_supervised

    console = Console(quiet=not is_first_rank())
    finished = resume and (run / "summary.json").is_file()
    with training_progress() as on_fold:
        summary = run_supervised(domain, name, loaded, run, resume=resume, on_fold=on_fold, workers=workers, init=init)
    assert summary is not None
    if finished:
        console.print(f"{run}: is finished already; nothing was trained.", soft_wrap=True, highlight=False)
    table = Table(title="IoU on held-out fields", title_justify="left")
    table.add_column("fold")
    phases = list(summary.folds[0].iou)
    for column in (*phases, "mIoU"):
        table.add_column(column, justify="right")
    for info in summary.folds:
        table.add_row(str(info.index), *(_cell(info.iou[phase]) for phase in phases), f"{info.miou:.3f}")
    spread = [f"{_cell(summary.iou_mean[p])} ± {_cell(summary.iou_std[p])}" for p in phases]
    table.add_row("mean ± std", *spread, f"{summary.miou_mean:.3f} ± {summary.miou_std:.3f}", style="bold")
    console.print(table)
    console.print(
        f"Run: {run} ({summary.seconds / 60:.1f} min). Learning curves: {run / 'history.png'}", soft_wrap=True
    )
    if summary.earlier_miou is not None:
        console.print(f"On the domain of {init}, fields that the folds have not seen: mIoU {summary.earlier_miou:.3f}")
    if label_curve:
        from microseg.train.supervised.label_curve import run_label_curve

        with training_progress("fold {task.fields[fold]}, fewer labels") as on_fold:
            curve = run_label_curve(domain, name, loaded, run, summary, on_fold, workers)
        table = Table(title="mIoU on held-out fields by labels", title_justify="left")
        for column in ("labels", "fields", "mIoU"):
            table.add_column(column, justify="right")
        for point in curve.points:
            table.add_row(
                f"{100 * point.share:.0f} %", f"{point.fields:g}", f"{point.miou_mean:.3f} ± {point.miou_std:.3f}"
            )
        console.print(table)
        console.print(f"{curve.verdict} Plot: {run / 'labels.png'}", soft_wrap=True, highlight=False)
    console.print(f"Next: microseg export {run} --out bagged.onnx", soft_wrap=True)


class BurnedIn(StrEnum):
    """What happens to images with burned-in text."""

    LIST = "list"
    REFUSE = "refuse"


@app.command()
def pretrain(
    folder: Annotated[Path, typer.Argument(help="Classified micrographs: one folder of images for each class.")],
    init: Annotated[
        str | None,
        typer.Option(help="First weights of the encoder: imagenet, none, or a file.", show_default="recipe's"),
    ] = None,
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe, or a YAML file.")] = "pretrain-small",
    out: Annotated[Path | None, typer.Option(help="Run folder to write.", show_default="runs/FOLDER-RECIPE")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    crop_bottom_px: Annotated[int, typer.Option(min=0, help="Native rows of data bar to cut off every image.")] = 0,
    annotated: Annotated[
        BurnedIn | None,
        typer.Option(
            help="Look for burned-in text: `list` such images, or `refuse` them.", show_default="not looked for"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Train an encoder to tell classes of micrographs apart; `supervised --set encoder.weights=RUN` starts from it."""
    from rich.console import Console

    from microseg.train.recipe_files import load_pretrain_recipe

    name, loaded = load_pretrain_recipe(recipe, settings or [], init=init, seed=seed)
    run = out or Path("runs") / f"{folder.resolve().name}-{name}"

    from microseg.train.pretraining.loop import run_pretrain

    console = Console()
    with training_progress("pre-training") as on_fold:
        found = run_pretrain(
            folder, name, loaded, run, resume=resume, crop_bottom_px=crop_bottom_px,
            annotated=annotated.value if annotated else None, report=on_fold(0),
        )  # fmt: skip
    if found.annotated:
        treated = "left out" if annotated is BurnedIn.REFUSE else "used all the same"
        console.print(
            f"Burned-in annotations, {treated}: {', '.join(found.annotated)}", soft_wrap=True, highlight=False
        )
    summary = found.summary
    console.print(
        f"{summary.encoder} from {summary.init}: {100 * summary.accuracy:.1f} % of unseen files recognised, mean over "
        f"{len(summary.classes)} classes ({summary.seconds / 60:.1f} min). Run: {run}",
        soft_wrap=True,
    )
    encoder = f"--set encoder.name={summary.encoder} --set encoder.weights={run}"
    console.print(f"Next: microseg train supervised DOMAIN {encoder}", soft_wrap=True)


app.command()(uda)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
