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


class PrecisionName(StrEnum):
    """What the engine computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


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
    precision: Annotated[PrecisionName, typer.Option(help="What the engine computes in.")] = PrecisionName.fp32,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DOMAIN",
            help="Micrographs to calibrate on and to compare with torch on; labels are not looked at. "
            "Default: the run's held-out tiles.",
        ),
    ] = None,
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="INT8 without zero points, as TensorRT takes it.")
    ] = False,
) -> None:
    """Bag the folds into one ONNX engine; written only if it agrees with torch, in every phase's fraction."""
    from rich.console import Console

    from microseg.cli.reduction import print_reduction
    from microseg.export.engine import export_run
    from microseg.export.reference import Candidates, held_out_tiles
    from microseg.synthetic.tiles import reference_tiles

    def candidates() -> Candidates:
        if reference is ReferenceTiles.real:
            return held_out_tiles(run)
        return Candidates("synthetic", reference_tiles())

    with Console(stderr=True).status("exporting") as status:
        manifest = export_run(
            run,
            out,
            lambda step: status.update(step),
            candidates,
            precision=precision.value,
            calibrate=calibrate,
            symmetric=symmetric,
        )
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
    print_reduction(console, manifest)
    console.print(f"Next: microseg segment FOLDER --engine {out}", soft_wrap=True, highlight=False)
