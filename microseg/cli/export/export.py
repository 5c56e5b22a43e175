"""`microseg export RUN|ENGINE.onnx --out bagged.onnx|bagged.plan`: the folds of a run to one engine."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class ReferenceTiles(StrEnum):
    """Where the tiles come from that `verify` runs on the station."""

    synthetic = "synthetic"
    real = "real"


class PrecisionName(StrEnum):
    """What the engine computes in."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


SourceArgument = Annotated[
    Path,
    typer.Argument(
        metavar="RUN|ENGINE.onnx", help="A finished run. For a plan also an ONNX engine; for --triton an engine."
    ),
]
OutOption = Annotated[
    Path | None, typer.Option(help="Engine to write: .onnx, or a TensorRT .plan. Default: bagged.onnx.")
]
PrecisionOption = Annotated[
    PrecisionName | None, typer.Option(help="Of a run: what the engine computes in. Default: fp32.")
]
CalibrateOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DOMAIN",
        help="Of a run: micrographs to calibrate on and to compare with torch on. Labels are not read. Default: the held-out "
        "tiles of the run.",
    ),
]
SymmetricOption = Annotated[
    bool,
    typer.Option("--symmetric", help="Of a run: INT8 without zero points, as TensorRT takes it. Plans always are."),
]
ReferenceOption = Annotated[
    ReferenceTiles | None,
    typer.Option(
        help="Of a run: tiles that the engine carries for `microseg verify`: synthetic, or real parts of held-out micrographs, "
        "which everyone who gets the engine can look at. Default: synthetic."
    ),
]
ValidateOption = Annotated[
    Path | None,
    typer.Option(
        metavar="DOMAIN",
        help="Of a run: labelled fields that trained nothing. The engine carries what it finds on them; reports measured as "
        "their domain state intervals by it. Default: the cross-validation of the folds alone.",
    ),
]
ProfileOption = Annotated[
    str | None,
    typer.Option(help="Of a plan: name of a profile, or a YAML file. Default: that of the installed TensorRT."),
]
RefitOption = Annotated[
    Path | None,
    typer.Option(
        metavar="OLD.plan",
        help="Of ENGINE.onnx to a plan: write OLD.plan with the weights of ENGINE.onnx instead of building. OLD.plan is of an "
        "equal network and was built with refittable: true. Needs its card.",
    ),
]
TritonOption = Annotated[
    Path | None,
    typer.Option(
        metavar="REPOSITORY",
        help="Put an engine, as it is, into this model repository of NVIDIA's Triton Inference Server. Alone or with --name.",
    ),
]
NameOption = Annotated[str | None, typer.Option(help="With --triton: name of the model. Default: microseg.")]


def export(
    source: SourceArgument,
    out: OutOption = None,
    precision: PrecisionOption = None,
    calibrate: CalibrateOption = None,
    symmetric: SymmetricOption = False,
    reference: ReferenceOption = None,
    validate: ValidateOption = None,
    profile: ProfileOption = None,
    refit: RefitOption = None,
    triton: TritonOption = None,
    name: NameOption = None,
) -> None:
    """Write the folds of a run as one engine, if its area fraction of every phase agrees with torch.

    An ONNX file, or a TensorRT plan built from it. `export ENGINE.onnx --out ENGINE.plan` builds on the station, without torch.
    """
    from microseg.cli.export.engine_tables import print_export
    from microseg.cli.progress import export_progress
    from microseg.export.api import export_engine
    from microseg.export.triton_repository import require_triton_alone, write_model

    others = {
        "--out": out, "--precision": precision, "--calibrate": calibrate, "--symmetric": symmetric,
        "--reference": reference, "--validate": validate, "--profile": profile, "--refit": refit,
    }  # fmt: skip
    require_triton_alone(triton, name, others)
    if triton is not None:
        typer.echo(write_model(source, triton, name))
        return
    with export_progress() as progress:
        exported = export_engine(
            source,
            out=out or Path("bagged.onnx"),
            precision=precision.value if precision else None,
            calibrate=calibrate,
            symmetric=symmetric,
            reference=reference.value if reference else None,
            validate=validate,
            profile=profile,
            refit=refit,
            progress=progress,
        )
    print_export(exported.path, exported.manifest, of_run=source.is_dir())
