"""`microseg explain RUN IMAGES`: Grad-CAM pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain(
    run: Annotated[Path, typer.Argument(help="Finished run folder.")],
    images: Annotated[Path, typer.Argument(help="Domain, folder of images, or one image.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for the pictures.")],
    phase: Annotated[str | None, typer.Option(help="Phase to explain.", show_default="the last one")] = None,
    layer: Annotated[
        str | None,
        typer.Option(help="Layer of the encoder.", show_default="layer3.16 of ResNet-101, or the corresponding one"),
    ] = None,
    fold: Annotated[int, typer.Option(min=0, help="Fold of the run, or head of a student.")] = 0,
) -> None:
    """Draw which pixels a network uses to predict a phase (Grad-CAM), beside field, label and prediction."""
    from microseg.cli.progress import status
    from microseg.train.analysis.explain import explain as run_explain

    with status("explaining") as show:
        found = run_explain(run, images, out, phase, layer, fold, lambda name: show(f"explaining {name}"))
    used, where, pictures = found
    typer.echo(f"{len(pictures)} pictures of {used!r} at layer {where} in {out}")
