"""`microseg merge OUT`: the results of all shards, each field once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microseg.cli.measure.options import JsonOption


def merge(
    out: Annotated[Path, typer.Argument(help="The --out of `microseg segment FIELDS.parquet --shard K/N`.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Join what there is, although fields have no result yet.")
    ] = False,
    json_path: JsonOption = None,
) -> None:
    """Join the results of the shards of a field list. Write tables, a summary and a report."""
    from microseg.cli.measure.segment import print_summary
    from microseg.core.plain_text import plain_name
    from microseg.core.storage.objects import place_of
    from microseg.deploy.archive.merging.merge import merge as run

    if json_path is not None:
        from microseg.core.system.files import require_writable

        require_writable(json_path)
    place = place_of(out)
    content = run(place, partial=partial)
    print_summary(content)
    typer.echo(f"Report: {plain_name(place.label)}/report.html")
    if json_path is not None:
        from microseg.core.system.files import write_json, writing

        with writing(json_path):
            write_json(json_path, content)
    for failed in content["failed"]:
        typer.echo(f"failed: {plain_name(failed['reason'])}", err=True)
    if content["failed"]:
        raise typer.Exit(3)
