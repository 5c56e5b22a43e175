"""`microseg distill RUN DOMAIN...`: a bag of folds to one small network with the same labels."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.cli.progress import training_progress
from microseg.core.errors import GateError
from microseg.core.plain_text import plain_name

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.schemas.bag import Distillation


def distill(
    run: Annotated[Path, typer.Argument(help="Finished run, supervised or adapted: the bag.")],
    domains: Annotated[
        list[Path],
        typer.Argument(metavar="DOMAIN...", help="Fields to learn on, labelled or not. Masks are not opened."),
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder to write.", show_default="RUN-student")] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Domain of the bag that each DOMAIN belongs to, in their order; or one for all.",
            show_default="by content, then by name",
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe, or a YAML file.")] = "distill",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Train one network, with a head for each fold, to reproduce a bag at a fraction of its cost.

    Exit status 4: on a field, a phase fraction of the student differs from the bag's by more than half a point. The run
    stays.
    """
    from microseg.cli.tables import output_console
    from microseg.core.domains.domain import load_domain
    from microseg.core.schemas.run import read_run
    from microseg.train.recipe_files import load_distill_recipe

    name, loaded = load_distill_recipe(recipe, settings or [], seed=seed)
    # Errors in these are reported before torch is loaded, which takes seconds. Training reads them again.
    read_run(run)
    for domain in domains:
        load_domain(domain, masks=False)

    from microseg.train.distillation.command import FAR_POINTS, is_far, run_distill

    console = output_console()
    student = out or run.with_name(f"{run.resolve().name}-student")
    finished = (student / "summary.json").is_file()
    with training_progress("student") as on_fold:
        summary = run_distill(
            run, domains, name, loaded, student, resume=resume, names=names or [], progress=on_fold(0),
            notice=lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False),
        )  # fmt: skip
    if finished:
        console.print(f"{student} is already finished; nothing is trained.", soft_wrap=True, highlight=False)
    assert summary.distillation is not None
    _print(console, summary.distillation, FAR_POINTS)
    console.print(f"Run: {student} ({summary.seconds / 60:.1f} min)", soft_wrap=True, highlight=False, markup=False)
    if is_far(summary.distillation):
        raise typer.Exit(GateError.exit_code)
    console.print(f"Next: microseg export {student} --out student.onnx", soft_wrap=True, highlight=False, markup=False)


def _print(console: Console, found: Distillation, far_points: float) -> None:
    from rich.markup import escape

    from microseg.cli.tables import TextTable

    count = len(found.compared)
    seen = (
        f"{count} field{'s' * (count != 1)} that it did not learn from" if count else "the fields that it learned from"
    )
    table = TextTable(f"Student compared with its bag on {seen}", [""], [plain_name(phase) for phase in found.points])
    rows = {
        "largest difference of the fraction, points": found.points,
        "spread of the heads, points": found.spread_points,
        "spread of the bag's folds, points": found.bag_spread_points,
    }
    for title, values in rows.items():
        table.add(title, *(f"{value:.2f}" for value in values.values()))
    table.print(console)
    console.print(
        f"mIoU of the labels with the bag's: {found.agreement:.3f}; of the heads with the folds: "
        f"{', '.join(f'{value:.3f}' for value in found.heads)}",
        soft_wrap=True,
        highlight=False,
    )
    phase = max(found.points, key=lambda name: found.points[name])
    if found.points[phase] > far_points:
        console.print(
            f"[yellow]Warning:[/yellow] on one field the fraction of {escape(plain_name(phase))} differs from the bag's by "
            f"{found.points[phase]:.2f} points, more than {far_points:g}. Remedy: more fields, more steps (--set steps=N), or "
            "--set narrow=1; else use the bag.",
            soft_wrap=True,
            highlight=False,
        )
    console.print(
        "The student has seen every labelled field of the bag. Score it on other fields.",
        soft_wrap=True,
        highlight=False,
    )
