"""`microseg distill RUN DOMAIN...`: a bag of folds to one small network that says the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.cli.progress import training_progress
from microseg.core.errors import GateError

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.schemas.bag import Distillation

# A student's fractions farther from its bag's than this are no longer the bag's.
FAR_POINTS = 0.5


def distill(
    run: Annotated[Path, typer.Argument(help="A finished run, supervised or adapted: the bag.")],
    domains: Annotated[
        list[Path],
        typer.Argument(metavar="DOMAIN...", help="Fields to learn on, labelled or not; their masks are not opened."),
    ],
    out: Annotated[Path | None, typer.Option(help="Run folder to write.", show_default="RUN-student")] = None,
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="The bag's domain that each DOMAIN is prepared as, in their order; one for all.",
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
    """Teach one network, with a head for each fold, to say what the bag says at a fraction of its cost.

    Exit status 4: a phase fraction of the student is farther than half a point from the bag's on a field; the run stays.
    """
    from rich.console import Console

    from microseg.core.domains.domain import load_domain
    from microseg.core.schemas.run import read_run
    from microseg.train.recipe_files import load_distill_recipe

    name, loaded = load_distill_recipe(recipe, settings or [], seed=seed)
    # Read again later; what is wrong with them is said before torch is loaded, which takes seconds.
    read_run(run)
    for domain in domains:
        load_domain(domain, masks=False)

    from microseg.train.distillation.command import run_distill

    console = Console()
    student = out or run.with_name(f"{run.resolve().name}-student")
    finished = (student / "summary.json").is_file()
    with training_progress("student") as on_fold:
        summary = run_distill(
            run, domains, name, loaded, student, resume=resume, names=names or [], report=on_fold(0),
            notice=lambda text: console.print(text, soft_wrap=True, highlight=False, markup=False),
        )  # fmt: skip
    if finished:
        console.print(f"{student}: is finished already; nothing was trained.", soft_wrap=True, highlight=False)
    assert summary.distillation is not None
    _print(console, summary.distillation)
    console.print(f"Run: {student} ({summary.seconds / 60:.1f} min)", soft_wrap=True, highlight=False, markup=False)
    if max(summary.distillation.points.values()) > FAR_POINTS:
        raise typer.Exit(GateError.exit_code)
    console.print(f"Next: microseg export {student} --out student.onnx", soft_wrap=True, highlight=False, markup=False)


def _print(console: Console, found: Distillation) -> None:
    from rich.markup import escape
    from rich.table import Table

    where = (
        f"{len(found.compared)} fields that it did not learn from" if found.compared else "fields that it learned from"
    )
    table = Table(title=f"Student beside its bag on {where}", title_justify="left")
    table.add_column("")
    for phase in found.points:
        table.add_column(escape(phase), justify="right")
    rows = {
        "largest difference of the fraction, points": found.points,
        "spread of the heads, points": found.spread_points,
        "spread of the bag's folds, points": found.bag_spread_points,
    }
    for title, values in rows.items():
        table.add_row(title, *(f"{value:.2f}" for value in values.values()))
    console.print(table)
    console.print(
        f"Labels against the bag's: mIoU {found.agreement:.3f}; heads against folds: "
        f"{', '.join(f'{value:.3f}' for value in found.heads)}",
        soft_wrap=True,
        highlight=False,
    )
    phase = max(found.points, key=lambda name: found.points[name])
    if found.points[phase] > FAR_POINTS:
        console.print(
            f"[yellow]Warning:[/yellow] {escape(phase)} is {found.points[phase]:.2f} points from the bag's on one field, more "
            f"than {FAR_POINTS:g}. Remedy: more fields, --set steps=N with more steps, or --set narrow=1; else the bag.",
            soft_wrap=True,
            highlight=False,
        )
    console.print(
        "No labelled field of the bag is unseen by the student: score it on other fields.",
        soft_wrap=True,
        highlight=False,
    )
