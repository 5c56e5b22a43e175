"""`microseg verify ENGINE [FIELDS]`: the acceptance test of an installation."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.cli.measure.options import DeviceOption, RuntimeOption, ThreadsOption
from microseg.core.plain_text import plain, plain_name

if TYPE_CHECKING:
    from microseg.deploy.acceptance.verify import RunLabeller
    from microseg.deploy.acceptance.verify_record import VerifyRecord


def verify(
    engine: Annotated[Path, typer.Argument(help="An engine.")],
    fields: Annotated[
        Path | None,
        typer.Argument(help="Micrographs to compare on: any with --against, labelled ones (a domain) without it."),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(metavar="ENGINE|RUN", help="Another engine, or a run (needs torch), to compare with."),
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Record to write (.json), with a page (.md) beside it. Replaced if it exists.")
    ] = Path("verify.json"),
    domain: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Prepare as this domain.")] = None,
    min_miou: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Mean IoU that labelled fields must reach. Default: that of the worst fold, less 0.05."
        ),
    ] = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Check on this machine that an engine labels its reference tiles, and any fields, as expected. Exit 4 if a check fails."""
    from microseg.cli.progress import status
    from microseg.deploy.acceptance.verify import VerifyOptions, verify_to_file

    options = VerifyOptions(
        engine=engine,
        fields=fields,
        against=against,
        domain=domain,
        runtime=runtime.value if runtime else None,
        device=device.value if device else None,
        threads=threads,
        min_miou=min_miou,
    )
    with status("verifying") as show:
        record, path, page = verify_to_file(options, out, _open_run, show)
    _print(record)
    typer.echo(f"Record: {plain(str(path))}, {plain(str(page))}")
    if not record.passed:
        raise typer.Exit(4)


def _open_run(run: Path, phases: list[str]) -> RunLabeller:
    from microseg.core.schemas.run import read_record
    from microseg.deploy.acceptance.verify import RunLabeller
    from microseg.train.analysis.evaluate import run_labels

    return RunLabeller(run_labels(run, phases), read_record(run).distillation is not None)


def _print(record: VerifyRecord) -> None:
    from microseg.cli.tables import output_console, say

    console = output_console()
    title = record.engine.name
    if record.runtime is not None:
        title += f" by {record.runtime.name} {record.runtime.version}, {record.runtime.provider}"
    say(console, title)
    # A line for each check, so that names of fields stay whole at any width and in a log file.
    for row in record.checks:
        allowed = f" (allowed: {row.limit})" if row.limit not in ("", row.found) else ""
        say(console, f"{'ok' if row.passed else 'FAILED':6}  {plain_name(row.check)}: {plain_name(row.found)}{allowed}")
    console.print("[green]passed[/]" if record.passed else "[bold red]FAILED[/]")
    if record.runtime is None:
        say(console, "Nothing was run: the network is not the exported one. Remedy: copy or export the engine again.")
    elif not record.passed:
        say(
            console,
            "Do not measure with this engine on this machine. Remedy: copy the engine again. If that does not help, use "
            "another --runtime, or an engine exported in higher precision or for this processor. One small field is weak "
            "evidence against masks: give more fields.",
        )
