"""`microseg suggest RUN|ENGINE FOLDER`: the fields whose labels would help most, as a folder to label."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.labelling.suggest import Suggested


def suggest(
    model: Annotated[Path, typer.Argument(metavar="RUN|ENGINE", help="Run folder, or engine (.onnx).")],
    folder: Annotated[
        Path, typer.Argument(help="Folder of unlabelled micrographs, or a YAML file that describes one.")
    ],
    count: Annotated[int, typer.Option("--n", min=1, max=1000, help="Number of fields to suggest.")] = 5,
    out: Annotated[Path, typer.Option(help="Domain folder to write.")] = Path("TODO"),
    domain_name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Prepare the fields as this domain of the run or engine.")
    ] = None,
) -> None:
    """Choose the fields, or regions of large ones, whose labels would help most. Write them with predicted masks to correct."""
    from microseg.cli.progress import status
    from microseg.cli.tables import output_console

    with status("reading the networks") as show:
        if model.is_dir():
            from microseg.train.analysis.suggest import suggest_with_run

            found = suggest_with_run(model, folder, count, out, domain_name, show)
        else:
            from microseg.deploy.suggest import suggest_with_engine

            found = suggest_with_engine(model, folder, count, out, domain_name, show)
    _print(output_console(), found)


def _print(console: Console, found: Suggested) -> None:
    from microseg.cli.tables import TextTable, say

    title = f"Fields to label, of {found.suggestions.candidates} candidates"
    table = TextTable(title, ["field"], ["folds disagree", "distance", "stands for"], shortens=True)
    for item in found.suggestions.fields:
        name = Path(item.image).name
        disagreement = "-" if item.disagreement is None else f"{100 * item.disagreement:.1f} %"
        distance = "-" if item.distance is None else f"{item.distance:.2f}"
        table.add(name, disagreement, distance, str(item.represents))
    table.print(console)
    for item in found.suggestions.fields:
        say(console, f"{Path(item.image).name}: {item.reason}")
    for failed in found.unreadable:
        say(console, f"Cannot be read: {failed.reason}")
    for notice in found.notices:
        say(console, notice)
    say(console, f"Pictures and reasons: {found.out / 'suggest.html'}")
    say(
        console,
        f"Next: correct the masks in {found.out / 'masks'} (or the outlines in {found.out / 'qupath'} with QuPath), then "
        f"microseg train supervised {quote(str(found.out))} --init {quote(str(found.init))}",
    )
