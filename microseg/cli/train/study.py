"""`microseg study STUDY.yaml`: a table of recipes and domains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.core.plain_text import plain, plain_name

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.train.analysis.study import Study, StudyResult


def study(
    file: Annotated[
        Path, typer.Argument(metavar="STUDY.yaml", help="Study with rows and domains, as in train/studies/.")
    ],
    out: Annotated[Path | None, typer.Option(help="Folder for runs and tables.", show_default="runs/STUDY")] = None,
    row: Annotated[
        str | None,
        typer.Option(help="Train and score only this row (name or number), without tables: for job arrays."),
    ] = None,
    list_rows: Annotated[bool, typer.Option("--list", help="Print the rows and their numbers; train nothing.")] = False,
) -> None:
    """Train and score every row of a table. Finished rows are skipped, and a row that fails does not stop the others."""
    from microseg.cli.progress import training_progress
    from microseg.cli.tables import output_console, say
    from microseg.train.analysis.study import load_study, run_study

    console = output_console()
    folder = out or Path("runs") / file.stem
    if list_rows:
        for number, entry in enumerate(load_study(file)[0].rows, start=1):
            say(console, f"{number:3d}  {entry.name}  {plain_name(entry.title)}")
        return
    with training_progress() as on_fold:
        result = run_study(file, folder, lambda name: say(console, f"row {name}"), on_fold, row)
    if row is None:
        _print_table(console, load_study(file)[0], result, folder)
    else:
        say(console, f"Done: {', '.join(result.rows) or 'nothing'}. The table: microseg study {file} --out {folder}")
    for name, reason in result.failed.items():
        typer.echo(f"row {name} failed: {plain(reason)}", err=True)
    if result.failed:
        raise typer.Exit(3)


def _print_table(console: Console, study: Study, result: StudyResult, folder: Path) -> None:
    """Print a line for each row and domain, which fits a terminal. The files hold the paper's wide table."""
    from microseg.cli.tables import TextTable, say
    from microseg.train.analysis.study import SOURCE, entries

    domains = [SOURCE, *study.targets]
    columns = list(dict.fromkeys(column for name in reversed(domains) for column in entries(study, None, None, name)))
    heads = [plain_name(column) for column in columns]
    shown = TextTable("mIoU, RDT and fractions in percent, mean ± std over folds", ["row", "domain"], heads)
    for row in study.rows:
        if row.name not in result.rows:
            titles = f"{row.name} {row.title}".strip(), "failed" if row.name in result.failed else ""
            shown.add(*titles, *("" for _ in heads), ends_section=True)
            continue
        for name in domains:
            found = entries(study, row, result.rows[row.name], name)
            title = {0: row.name, 1: row.title}.get(domains.index(name), "")
            cells = (found.get(column, "") for column in columns)
            shown.add(title, name, *cells, ends_section=name == domains[-1])
    shown.print(console)
    say(console, f"Tables: {folder / 'table.md'}, {folder / 'table.csv'}. Plot: {folder / 'bars.png'}")
    say(console, f"Page: {folder / 'study.html'}")
