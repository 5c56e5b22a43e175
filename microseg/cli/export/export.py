"""`microseg export RUN|ENGINE.onnx --out bagged.onnx|bagged.plan`: fold models to one engine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.schemas.manifest import Manifest
    from microseg.export.reference_tiles import Candidates


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
    source: Annotated[
        Path, typer.Argument(metavar="RUN|ENGINE.onnx", help="A finished run folder; for a plan also an ONNX engine.")
    ],
    out: Annotated[Path, typer.Option(help="Engine to write: .onnx, or a TensorRT .plan.")] = Path("bagged.onnx"),
    precision: Annotated[
        PrecisionName | None, typer.Option(help="Of a run: what the engine computes in. Default: fp32.")
    ] = None,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            metavar="DOMAIN",
            help="Of a run: micrographs to calibrate on and to compare with torch on; labels are not looked at. "
            "Default: the run's held-out tiles.",
        ),
    ] = None,
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="INT8 without zero points, as TensorRT takes it; plans always are.")
    ] = False,
    reference: Annotated[
        ReferenceTiles | None,
        typer.Option(
            help="Of a run: tiles that the engine carries for `microseg verify`; synthetic ones, or real ones of the "
            "run's held-out fields, which whoever gets the engine can then look at. Default: synthetic."
        ),
    ] = None,
    profile: Annotated[
        str | None,
        typer.Option(help="Of a plan: profile name or YAML file. Default: that of the TensorRT that is installed."),
    ] = None,
    refit: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD.plan",
            help="Of ENGINE.onnx to a plan: put its weights into this plan of an equal network, which was built with "
            "refittable: true, instead of building one. Needs its card.",
        ),
    ] = None,
) -> None:
    """Bag the folds into one engine, written only if it agrees with torch in every phase's fraction.

    ONNX, or a TensorRT plan built from it; `export ENGINE.onnx --out ENGINE.plan` builds on the station, without torch.
    """
    from rich.console import Console

    from microseg.core.errors import InputError

    console = Console()
    is_plan = out.suffix.lower() == ".plan"
    if profile is not None and not is_plan:
        raise InputError(f"--profile {profile}: is for plans. Remedy: --out {out.with_suffix('.plan')}.")
    if refit is not None and (not is_plan or source.is_dir() or profile is not None):
        raise InputError(
            f"--refit {refit}: takes ENGINE.onnx and --out NEW.plan, without --profile, which is that of the old plan. Remedy: "
            "of a run, export the .onnx file first."
        )
    if is_plan and not source.is_dir():
        given = {"--precision": precision, "--calibrate": calibrate, "--symmetric": symmetric, "--reference": reference}
        names = [name for name, value in given.items() if value]
        if names and source.is_file():
            raise InputError(
                f"{', '.join(names)}: settled when {source} was exported. Remedy: leave that out, or give the run instead "
                "of the engine."
            )
        manifest = _export_engine(source, out, profile, refit)
    elif source.is_file():
        raise InputError(f"{source}: is a file; --out {out} takes a run. Remedy: a run folder, or --out bagged.plan.")
    else:
        manifest = _export_run(
            source,
            out,
            profile,
            reference or ReferenceTiles.synthetic,
            precision or PrecisionName.fp32,
            calibrate,
            symmetric,
        )
    if manifest.plan is None:
        _say(
            console,
            f"{out}: {len(manifest.folds)} folds, {out.stat().st_size / 1e6:.1f} MB, "
            f"{manifest.bytes_per_pixel:.0f} bytes of memory per pixel of a tile",
        )
    else:
        _print_plan(console, out, manifest)
    if source.is_dir():
        _print_fidelity(console, manifest)
    if manifest.plan is not None and not manifest.plan.verified:
        _say(console, f"Next, on that card: microseg verify {out}")
    else:
        _say(console, f"Next: microseg segment FOLDER --engine {out}")


def _export_run(
    run: Path,
    out: Path,
    profile: str | None,
    reference: ReferenceTiles,
    precision: PrecisionName,
    calibrate: Path | None,
    symmetric: bool,
) -> Manifest:
    from microseg.cli.progress import steps_of
    from microseg.export.reference_tiles import Candidates, held_out_tiles
    from microseg.synthetic.tiles import reference_tiles

    def candidates() -> Candidates:
        if reference is ReferenceTiles.real:
            return held_out_tiles(run)
        return Candidates("synthetic", reference_tiles())

    if out.suffix.lower() == ".plan":
        from microseg.cli.progress import build_progress
        from microseg.export.tensorrt.plan import plan_of_run

        with build_progress() as progress:
            return plan_of_run(
                run, out, profile, lambda step: progress.begin(step, 0), progress, candidates,
                precision=precision.value, calibrate=calibrate, symmetric=symmetric,
            )  # fmt: skip
    from microseg.export.onnx_export import export_run

    with steps_of("exporting") as step:
        return export_run(
            run, out, progress=step, reference=candidates,
            precision=precision.value, calibrate=calibrate, symmetric=symmetric,
        )  # fmt: skip


def _export_engine(source: Path, out: Path, profile: str | None, refit: Path | None) -> Manifest:
    from microseg.cli.progress import build_progress
    from microseg.export.tensorrt.plan import plan_of_engine
    from microseg.export.tensorrt.refit import refit_plan

    with build_progress() as progress:
        if refit is not None:
            return refit_plan(source, out, refit, progress)
        return plan_of_engine(source, out, profile, progress)


def _print_plan(console: Console, out: Path, manifest: Manifest) -> None:
    from microseg.cli.export.inspect import told_comparison
    from microseg.export.tensorrt.plan_profile import ComputeCapability
    from microseg.runtime.tensorrt.library import TITLES

    plan = manifest.plan
    assert plan is not None
    _say(
        console,
        f"{out}: {TITLES[plan.flavour]} {plan.tensorrt}, profile {plan.profile}, {out.stat().st_size / 1e6:.1f} MB, "
        f"{plan.gpu or 'built without a card'}",
    )
    _say(
        console,
        f"Layers: {_counts(plan.layer_precisions)}; convolutions and products: {_counts(plan.matrix_precisions)}",
    )
    if plan.engine_precisions is not None:
        _say(console, f"Layers of the built engine: {_counts(plan.engine_precisions)}")
    for shown in (plan.matrix_precisions, plan.engine_precisions or {}):
        wider = sum(number for name, number in shown.items() if name != manifest.precision)
        if wider:
            _say(console, f"note: a {manifest.precision} engine, of which {wider} layers compute in another precision")
            break
    if plan.flavour == "tensorrt_rtx" and plan.gpu and plan.compute_capability not in get_args(ComputeCapability):
        _say(
            console,
            f"note: TensorRT for RTX does not serve this machine's {plan.gpu} (compute capability "
            f"{plan.compute_capability}); full TensorRT does: pip install 'microseg[tensorrt]'",
        )
    if plan.comparison is None:
        _say(console, "Unverified: not yet compared with its ONNX file on the card that will run it")
    else:
        _say(console, f"Verified here: {told_comparison(plan.comparison)}")


def _counts(precisions: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(precisions.items())) or "none"


def _print_fidelity(console: Console, manifest: Manifest) -> None:
    """How true the ONNX graph is to torch."""
    from microseg.cli.export.precision_tables import print_reduction

    bag = manifest.parity[0]
    worst = max(bag.fraction_difference_points.values())
    _say(
        console,
        f"Against torch on the run's parity tiles: probability {bag.max_probability_difference:.1e}, "
        f"labels {100 * bag.label_disagreement:.4f} %, fractions {worst:.5f} points",
    )
    print_reduction(console, manifest)


def _say(console: Console, text: str) -> None:
    console.print(text, soft_wrap=True, highlight=False, markup=False)
