"""`microseg.export_engine`, which `microseg export` calls too: a run or an ONNX engine to an engine file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from microseg.core.errors import InputError
from microseg.export.progress import ExportProgress, SilentProgress
from microseg.runtime.engine_metadata import is_plan

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.tolerance import Precision
    from microseg.export.reference_tiles import Candidates

ReferenceOrigin = Literal["synthetic", "real"]


@dataclass(frozen=True)
class ExportedEngine:
    """An engine that was written.

    Attributes:
        path: the .onnx or .plan file.
        manifest: its manifest: phases, domains, folds, figures of the comparisons, provenance.
    """

    path: Path
    manifest: Manifest


def export_engine(
    source: Path | str,
    *,
    out: Path | str = "bagged.onnx",
    precision: Precision | None = None,
    calibrate: Path | str | None = None,
    symmetric: bool = False,
    reference: ReferenceOrigin | None = None,
    validate: Path | str | None = None,
    profile: Path | str | None = None,
    refit: Path | str | None = None,
    progress: ExportProgress | None = None,
) -> ExportedEngine:
    """Write the folds of a run as one engine, if it agrees with torch; or build a TensorRT plan.

    A run gives an ONNX engine or a plan and needs torch. An ONNX engine gives a plan, without torch.

    Args:
        source: folder of a finished run; for a plan also the .onnx file of an engine.
        out: the engine to write: .onnx, or .plan with its manifest beside it (.plan.json).
        precision: of a run: what the engine computes in, "fp32", "fp16" or "int8". Default: "fp32".
        calibrate: of a run: a domain whose fields give INT8 its ranges. The engine is compared with torch on them too. Labels
            are not read. Default: the held-out tiles of the run.
        symmetric: of a run: INT8 without zero points, as TensorRT takes it. A plan always is.
        reference: of a run: the tiles that the engine carries for `microseg verify`, "synthetic" or "real". Real ones are
            parts of held-out micrographs, which everyone who gets the engine can look at. Default: "synthetic".
        validate: of a run: labelled fields that trained nothing. The engine carries what it finds on them, and reports measured
            as their domain state intervals by it. Default: the cross-validation of the folds alone.
        profile: of a plan: name of a shipped profile, or a YAML file. Default: that of the installed TensorRT.
        refit: of an ONNX engine to a plan: an existing plan of an equal network, built with `refittable: true`, that gets the
            weights of `source` instead of a build. Needs the card of that plan.
        progress: receives the phases of the export. Default: nothing is reported.

    Returns:
        The path of the engine and its manifest.

    Raises:
        InputError: a file or an option that cannot be used, or options that exclude each other.
        GateError: the engine does not agree with torch, or the plan not with its ONNX file. Nothing is written.
        MissingExtraError: a package is not installed.
    """
    source, out = Path(source), Path(out)
    calibrate, refit, validate = (None if path is None else Path(path) for path in (calibrate, refit, validate))
    reported = progress or SilentProgress()
    of_run: dict[str, Any] = {
        "--precision": precision, "--calibrate": calibrate, "--symmetric": symmetric, "--reference": reference,
        "--validate": validate,
    }  # fmt: skip
    _require_matching(source, out, profile, refit, of_run)
    name = None if profile is None else str(profile)
    if is_plan(out) and not source.is_dir():
        from microseg.export.tensorrt.plan import plan_of_engine
        from microseg.export.tensorrt.refit import refit_plan

        if refit is not None:
            return ExportedEngine(out, refit_plan(source, out, refit, reported))
        return ExportedEngine(out, plan_of_engine(source, out, name, reported))
    options: dict[str, Any] = {
        "precision": precision or "fp32",
        "calibrate": calibrate,
        "symmetric": symmetric,
        "validate": validate,
        "reference": _candidates(source, reference or "synthetic"),
        "progress": reported,
    }
    if is_plan(out):
        from microseg.export.tensorrt.plan import plan_of_run

        return ExportedEngine(out, plan_of_run(source, out, name, **options))
    from microseg.export.onnx_export import export_run

    return ExportedEngine(out, export_run(source, out, **options))


def _require_matching(
    source: Path, out: Path, profile: Path | str | None, refit: Path | None, of_run: dict[str, Any]
) -> None:
    """Raise InputError for options that do not belong to what `source` and `out` ask for."""
    if profile is not None and not is_plan(out):
        raise InputError(f"--profile {profile}: is for plans. Remedy: --out {out.with_suffix('.plan')}.")
    if refit is not None and (not is_plan(out) or source.is_dir() or profile is not None):
        raise InputError(
            f"--refit {refit}: takes ENGINE.onnx and --out NEW.plan, without --profile: the profile is that of the old plan. "
            "Remedy: of a run, export the .onnx file first."
        )
    if not source.is_file():
        return
    if not is_plan(out):
        raise InputError(f"{source}: is a file; --out {out} takes a run. Remedy: a run folder, or --out bagged.plan.")
    names = [name for name, value in of_run.items() if value]
    if names:
        raise InputError(
            f"{', '.join(names)}: settled when {source} was exported. Remedy: leave that out, or give the run instead "
            "of the engine."
        )


def _candidates(run: Path, origin: ReferenceOrigin) -> Callable[[], Candidates]:
    """What gives the tiles for `microseg verify`; computed only once the engine is finished."""

    def candidates() -> Candidates:
        from microseg.export.reference_tiles import Candidates, held_out_tiles
        from microseg.synthetic.tiles import reference_tiles

        return held_out_tiles(run) if origin == "real" else Candidates("synthetic", reference_tiles())

    return candidates
