"""`microseg explain RUN IMAGES`: Grad-CAM pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    images: Annotated[Path, typer.Argument(help="A domain, a folder of images, or one image.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the pictures.")],
    phase: Annotated[str | None, typer.Option(help="Phase to explain.", show_default="the last one")] = None,
    layer: Annotated[
        str | None, typer.Option(help="Layer of the encoder.", show_default="layer3.16 of ResNet-101, or its like")
    ] = None,
    fold: Annotated[int, typer.Option(min=0, help="Which of the run's networks.")] = 0,
) -> None:
    """Show where a network looks when it calls pixels by a phase: field, label, prediction and Grad-CAM side by side."""
    from rich.console import Console

    from microseg.train.analysis.explain import explain as run_explain

    with Console(stderr=True).status("explaining") as status:
        found = run_explain(run, images, out, phase, layer, fold, lambda name: status.update(f"explaining {name}"))
    used, where, pictures = found
    typer.echo(f"{len(pictures)} pictures of {used!r} at {where} in {out}")
