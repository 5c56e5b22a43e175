"""`microseg export RUN --out bagged.onnx`: fold models to one engine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ReferenceTiles(StrEnum):
    """What `verify` runs on the station."""

    synthetic = "synthetic"
    real = "real"


def export(
    run: Annotated[Path, typer.Argument(help="A finished run folder.")],
    out: Annotated[Path, typer.Option(help="Engine to write (.onnx).")] = Path("bagged.onnx"),
    reference: Annotated[
        ReferenceTiles,
        typer.Option(
            help="Tiles that the engine carries for `microseg verify`: synthetic ones, or real ones of the run's "
            "held-out fields, which whoever gets the engine can then look at."
        ),
    ] = ReferenceTiles.synthetic,
) -> None:
    """Bag the folds into one ONNX engine; written only if it agrees with torch on the run's held-out tiles."""
    from rich.console import Console

    from microseg.export.engine import export_run
    from microseg.export.reference import Candidates, held_out_tiles
    from microseg.synthetic.tiles import reference_tiles

    def candidates() -> Candidates:
        if reference is ReferenceTiles.real:
            return held_out_tiles(run)
        return Candidates("synthetic", reference_tiles())

    with Console(stderr=True).status("exporting") as status:
        manifest = export_run(run, out, lambda step: status.update(step), candidates)
    bag = manifest.parity[0]
    console = Console()
    console.print(
        f"{out}: {len(manifest.folds)} folds, {out.stat().st_size / 1e6:.1f} MB, "
        f"{manifest.bytes_per_pixel:.0f} bytes of memory per pixel of a tile",
        soft_wrap=True,
        highlight=False,
    )
    worst = max(bag.fraction_difference_points.values())
    console.print(
        f"Against torch: probability {bag.max_probability_difference:.1e}, labels {100 * bag.label_disagreement:.4f} %, "
        f"fractions {worst:.5f} points",
        soft_wrap=True,
        highlight=False,
    )
    console.print(f"Next: microseg segment FOLDER --engine {out}", soft_wrap=True, highlight=False)
