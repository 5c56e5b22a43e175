"""`microseg validate ENGINE LABELLED`: the evidence behind the intervals of reports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.core.plain_text import plain, plain_name

if TYPE_CHECKING:
    from microseg.cli.tables import Cell
    from microseg.core.schemas.validation import Validation


def validate(
    engine: Annotated[Path, typer.Argument(help="An engine (.onnx or .plan).")],
    labelled: Annotated[
        Path,
        typer.Argument(
            help="Labelled fields that trained nothing: a domain. With --counts, a folder with their images."
        ),
    ],
    counts: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Manual point counts in place of masks: columns field, phase, points_on_phase, points."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="File to write, replaced if it exists. Default: ENGINE.validation.json, which `segment` finds."
        ),
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="NAME",
            help="Measure as this domain of the engine. Default: the one of the labelled domain's name, else its default.",
        ),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The same fields under the same names, captured again: the repeatability."),
    ] = None,
    second: Annotated[
        Path | None,
        typer.Option(metavar="DOMAIN", help="The same images, labelled by a second person: how far annotators differ."),
    ] = None,
) -> None:
    """Measure labelled fields that trained nothing, so that reports of this engine and domain can state intervals."""
    from microseg.cli.progress import status
    from microseg.deploy.measurement.evidence import too_few
    from microseg.deploy.validate import ValidateOptions
    from microseg.deploy.validate import validate as run

    options = ValidateOptions(engine, labelled, counts, out, domain, again, second)
    with status("validating") as show:
        path, found = run(options, lambda name: show(f"validating {name}"))
    print_validation(found)
    if (few := too_few(found)) is not None:
        typer.echo(f"Reports claim nothing by it: {few}.")
    typer.echo(f"Validation: {plain(str(path))}. Its hash finds accidents and edits by hand, not forgers.")


def print_validation(validation: Validation) -> None:
    """Print what labelled fields show of an engine: for each phase the range and the error of the fractions."""
    from statistics import fmean

    from microseg.cli.tables import TextTable, output_console, print_pairs
    from microseg.deploy.measurement.evidence import told

    console = output_console()
    rows: dict[str, Cell] = {"evidence": told(validation), "measured as": f"domain {plain_name(validation.domain)}"}
    if validation.pixel_sizes is not None:
        rows["pixel sizes"] = validation.pixel_sizes.text
    for title, term in {"repeatability": validation.repeatability, "annotators": validation.annotators}.items():
        if term is not None:
            points = ", ".join(f"{name} {100 * std:.2f}" for name, std in zip(validation.phases, term.std, strict=True))
            rows[title] = f"standard deviation {plain_name(points)} points ({term.degrees_of_freedom} pairs)"
    levels = [field.alarm.level for field in validation.fields if field.alarm is not None]
    if levels:
        counts = (f"{levels.count(level)} {level}" for level in ("known", "doubtful", "foreign") if level in levels)
        rows["alarm"] = f"{', '.join(counts)}: reports compare their fields with these"
    print_pairs(console, rows)
    true, found = (
        [getattr(field, key) for field in validation.fields] for key in ("true_fractions", "found_fractions")
    )
    table = TextTable("Fractions of the labelled fields", ["phase"], ["lowest %", "highest %", "found - true, points"])
    for index, name in enumerate(validation.phases):
        values = [100 * each[index] for each in true]
        error = fmean(100 * (b[index] - a[index]) for a, b in zip(true, found, strict=True))
        table.add(name, f"{min(values):.2f}", f"{max(values):.2f}", f"{error:+.2f}")
    table.print(console)
