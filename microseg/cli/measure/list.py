"""`microseg list INPUT --out FIELDS.parquet`: the fields of an input, listed once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microseg.cli.measure.options import SectionsOption


def list(
    input_path: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A folder of micrographs with its sub-folders, a domain folder or its YAML file, or the URL of a folder.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="The field list to write, a Parquet file or its URL.")],
    sections: SectionsOption = None,
    sha256: Annotated[
        bool, typer.Option("--sha256", help="Hash the content of each file: copies with another time are no change.")
    ] = False,
) -> None:
    """List the fields of an archive, which `segment` measures in shards."""
    from microseg.cli.progress import status
    from microseg.cli.tables import output_console, say
    from microseg.core.plain_text import plain_name
    from microseg.deploy.archive.lists.listing import list_fields

    with status("listing") as show:
        count = 0

        def advance(number: int) -> None:
            nonlocal count
            count += number
            show(f"{count} fields listed")

        result = list_fields(input_path, out, sections, with_sha256=sha256, on_advance=advance)
    console = output_console()
    for text in result.left_out:
        say(console, f"note: {plain_name(text)}")
    say(console, f"{result.fields} fields, {result.total_bytes / 1e6:.1f} MB: {plain_name(result.place)}")
