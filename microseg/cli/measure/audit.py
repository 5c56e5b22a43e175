"""`microseg audit draw|apply`: a report becomes audited by a few of its own fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Audit a report: draw few of its fields, label or count them, and state what they show.",
    no_args_is_help=True,
)
ReportArgument = Annotated[Path, typer.Argument(help="A report of `microseg segment`.")]
ImagesOption = Annotated[
    Path | None,
    typer.Option(help="Where the measured micrographs are now.", show_default="where the report says"),
]
EngineOption = Annotated[
    Path | None,
    typer.Option(help="Where the engine is now.", show_default="where the report says"),
]


@app.command()
def draw(
    report: ReportArgument,
    number: Annotated[int, typer.Option("--n", min=2, max=1000, help="Fields to draw, over all sections.")] = 8,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of the draw.", show_default="a new one")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write.", show_default="REPORT-audit")] = None,
    points: Annotated[int, typer.Option(min=4, max=10_000, help="Points of the grid of a field.")] = 100,
    images: ImagesOption = None,
    engine: EngineOption = None,
) -> None:
    """Draw fields of a report. Write them with predicted masks to correct, and with a page to count points on."""
    from microseg.cli.progress import status
    from microseg.cli.tables import TextTable, output_console, say
    from microseg.core.plain_text import plain_name
    from microseg.deploy.audit.draw import DrawOptions, draw_audit

    options = DrawOptions(report, number, seed, out, points, images, engine)
    with status("drawing") as show:
        drawn = draw_audit(options, lambda name: show(f"writing {name}"))
    console = output_console()
    total = sum(drawn.draw.sections.values())
    table = TextTable(
        f"Drawn: {len(drawn.draw.fields)} of {total} fields", ["field", "section"], ["points"], shortens=True
    )
    for field in sorted(drawn.draw.fields, key=lambda each: each.name):
        table.add(plain_name(field.name), plain_name(field.section), str(field.points))
    table.print(console)
    say(console, f"seed {drawn.draw.seed}: ordered by found fraction, systematic, with a random start")
    if drawn.left_out:
        say(console, f"{drawn.left_out} fields trained this engine and are never drawn")
    place, of = plain_name(str(drawn.out)), plain_name(str(report))
    say(console, f"Count points: open {place}/audit.html, then: microseg audit apply {of} --counts counts.csv")
    say(console, f"Or correct the masks in {place}/masks, then: microseg audit apply {of} --masks {place}")


@app.command()
def apply(
    report: ReportArgument,
    masks: Annotated[
        Path | None,
        typer.Option(help="Labels of the drawn fields: the drawn folder, a folder of masks, or a labelled domain."),
    ] = None,
    counts: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="counts.csv or counts.json of one person. Twice: of two people."),
    ] = None,
    images: ImagesOption = None,
    engine: EngineOption = None,
) -> None:
    """Write the report again with what the drawn fields show, and add them to the engine's validation."""
    from microseg.cli.measure.segment import print_summary
    from microseg.cli.progress import status
    from microseg.cli.tables import output_console, say
    from microseg.core.plain_text import plain_name
    from microseg.deploy.audit.apply import ApplyOptions, apply_audit

    options = ApplyOptions(report, masks, tuple(counts or ()), images, engine)
    with status("reading the audit") as show:
        applied = apply_audit(options, lambda name: show(f"reading {name}"))
    print_summary(applied.summary)
    console = output_console()
    for notice in applied.notices:
        say(console, f"note: {plain_name(notice)}")
    if applied.validation is not None:
        say(
            console,
            f"Validation: {plain_name(str(applied.validation))} has these fields now. Reports of the next lot of "
            "this domain compare with them.",
        )
    typer.echo(f"Report: {plain_name(str(report / 'report.html'))}")
