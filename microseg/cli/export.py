"""`microseg export RUN|ENGINE.onnx --out bagged.onnx|bagged.plan`: fold models to one engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.manifest import Manifest


def export(
    source: Annotated[
        Path, typer.Argument(metavar="RUN|ENGINE.onnx", help="A finished run folder; for a plan also an ONNX engine.")
    ],
    out: Annotated[Path, typer.Option(help="Engine to write: .onnx, or a TensorRT .plan.")] = Path("bagged.onnx"),
    profile: Annotated[
        str | None,
        typer.Option(help="Of a plan: profile name or YAML file. Default: that of the TensorRT that is installed."),
    ] = None,
) -> None:
    """Bag the folds into one engine: ONNX, written only if it agrees with torch, or a TensorRT plan built from that."""
    from rich.console import Console

    from microseg.core.errors import InputError

    console = Console(soft_wrap=True, highlight=False)
    if out.suffix.lower() == ".plan":
        _print_plan(console, out, _build_plan(source, out, profile))
    elif profile is not None:
        raise InputError(f"--profile {profile}: is for plans. Remedy: --out {out.with_suffix('.plan')}.")
    elif source.is_file():
        raise InputError(f"{source}: is a file; --out {out} takes a run. Remedy: a run folder, or --out bagged.plan.")
    else:
        from microseg.export.engine import export_run

        with Console(stderr=True).status("exporting") as status:
            manifest = export_run(source, out, lambda step: status.update(step))
        console.print(
            f"{out}: {len(manifest.folds)} folds, {out.stat().st_size / 1e6:.1f} MB, "
            f"{manifest.bytes_per_pixel:.0f} bytes of memory per pixel of a tile"
        )
        _print_parity(console, manifest)
    console.print(f"Next: microseg segment FOLDER --engine {out}")


def _build_plan(source: Path, out: Path, profile: str | None) -> Manifest:
    from microseg.cli.progress import build_progress
    from microseg.export.plan import plan_of_engine, plan_of_run

    with build_progress() as progress:
        if source.is_dir():
            return plan_of_run(source, out, profile, lambda step: progress.begin(step, 0), progress)
        return plan_of_engine(source, out, profile, progress)


def _print_plan(console: Console, out: Path, manifest: Manifest) -> None:
    from microseg.runtime.tensorrt_library import TITLES

    plan = manifest.plan
    assert plan is not None
    console.print(
        f"{out}: {TITLES[plan.flavour]} {plan.tensorrt}, profile {plan.profile}, {out.stat().st_size / 1e6:.1f} MB, "
        f"{plan.gpu or 'built without a card'}"
    )
    console.print(
        f"Layers: {_counts(plan.layer_precisions)}; convolutions and products: {_counts(plan.matrix_precisions)}"
    )
    if plan.engine_precisions is not None:
        console.print(f"Layers of the built engine: {_counts(plan.engine_precisions)}")
    for shown in (plan.matrix_precisions, plan.engine_precisions or {}):
        wider = sum(number for name, number in shown.items() if name != manifest.precision)
        if wider:
            console.print(f"note: a {manifest.precision} engine, of which {wider} layers compute in another precision")
            break
    console.print("Unverified: compare it with the ONNX file on the card that will run it")


def _counts(precisions: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(precisions.items())) or "none"


def _print_parity(console: Console, manifest: Manifest) -> None:
    bag = manifest.parity[0]
    worst = max(bag.fraction_difference_points.values())
    console.print(
        f"Against torch: probability {bag.max_probability_difference:.1e}, labels {100 * bag.label_disagreement:.4f} %, "
        f"fractions {worst:.5f} points"
    )
