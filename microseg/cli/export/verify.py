"""`microseg verify ENGINE [FIELDS]`: the acceptance test of an installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from microseg.cli.measure.segment import DeviceOption, RuntimeOption, ThreadsOption

# The page's name names the record too.
_SUFFIXES = (".json", ".md", "")


def verify(
    engine: Annotated[Path, typer.Argument(help="An engine.")],
    fields: Annotated[
        Path | None,
        typer.Argument(help="Micrographs to compare on: with --against any, without it labelled ones (a domain)."),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(metavar="ENGINE|RUN", help="What is right: another engine, or a run (needs torch).")
    ] = None,
    out: Annotated[
        Path,
        typer.Option(help="Record to write (.json); the same as a page goes beside it (.md). Replaced if it exists."),
    ] = Path("verify.json"),
    domain: Annotated[str | None, typer.Option("--as", metavar="NAME", help="Prepare as this domain.")] = None,
    min_miou: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="mIoU that labelled fields must reach. Default: the worst fold's, less 0.05."),
    ] = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Run an engine's reference tiles, and any fields, on this machine; exit 4 if a comparison fails."""
    from rich.console import Console

    from microseg.core.errors import InputError
    from microseg.core.schemas.plan import plan_manifest_path
    from microseg.core.schemas.run import read_record
    from microseg.core.system.files import require_writable, write_json, write_text
    from microseg.deploy.acceptance.verify import VerifyOptions, markdown
    from microseg.deploy.acceptance.verify import verify as run
    from microseg.deploy.report.records import writing
    from microseg.runtime import read_manifest

    if out.suffix.lower() not in _SUFFIXES:
        raise InputError(f"--out {out}: the record is a .json file. Remedy: --out {out.name}.json.")
    record, page = out.with_suffix(".json"), out.with_suffix(".md")
    for path in (engine, against):
        if path is not None and record.resolve() == plan_manifest_path(path).resolve():
            raise InputError(f"--out {out}: would replace the manifest of {path}. Remedy: another --out.")
    require_writable(record)
    run_labels, against_student = None, False
    if against is not None and against.is_dir():
        phases = [phase.name for phase in read_manifest(engine).phases]
        from microseg.train.analysis.evaluate import run_labels as labels_of

        run_labels = labels_of(against, phases)
        against_student = read_record(against).distillation is not None
    options = VerifyOptions(
        engine,
        fields,
        against,
        domain,
        runtime.value if runtime else None,
        device.value if device else None,
        threads,
        min_miou,
        against_student,
    )
    with Console(stderr=True).status("verifying") as status:
        content = run(options, run_labels, lambda step: status.update(step))
    _print(content)
    with writing(record):
        write_json(record, content)
        write_text(page, markdown(content))
    typer.echo(f"Record: {record}, {page}")
    if not content["passed"]:
        raise typer.Exit(4)


def _print(content: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    runtime = content["runtime"]
    title = escape(content["engine"]["name"])
    if runtime is not None:
        title += f" by {runtime['name']} {runtime['version']}, {escape(runtime['provider'])}"
    table = Table(title=title, title_justify="left", title_style="bold")
    table.add_column("check", overflow="fold")
    for name in ("found", "allowed"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("")
    for check in content["checks"]:
        verdict = "[green]ok[/]" if check["passed"] else "[bold red]FAILED[/]"
        table.add_row(escape(check["check"]), escape(check["found"]), escape(check["limit"]), verdict)
    console = Console()
    console.print(table)
    console.print("[green]passed[/]" if content["passed"] else "[bold red]FAILED[/]")
    if runtime is None:
        console.print(
            "Nothing was run: this is not the network that was exported. Remedy: copy or export the engine again."
        )
    elif not content["passed"]:
        console.print(
            "Do not measure with it here. Remedy: copy the engine again; if that does not help, another --runtime, or an "
            "engine exported in more precision or for this processor. Against masks, one small field says little: give more."
        )
