"""`microseg export ENGINE.onnx --out bagged.plan`: a TensorRT plan and its manifest from an ONNX engine. No torch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.plan import Flavour, PlanInfo
from microseg.core.schemas.tolerance import Precision
from microseg.export.progress import ExportProgress
from microseg.export.tensorrt.build import Built, build
from microseg.export.tensorrt.plan_file import require_out, require_portable, write_plan
from microseg.export.tensorrt.plan_graph import graph_sha256, plan_graph
from microseg.export.tensorrt.plan_profile import FullProfile, PlanProfile, RtxProfile, load_profile, require_stride
from microseg.runtime import EngineFile
from microseg.runtime.tensorrt.library import installed_flavour

if TYPE_CHECKING:
    from microseg.export.reference_tiles import Candidates

# Profiles used without --profile: most cards of the installed flavour can run them.
DEFAULT_PROFILES: dict[Flavour, str] = {"tensorrt_rtx": "rtx-station", "tensorrt": "a100"}


def plan_of_run(
    run: Path,
    out: Path,
    profile: str | None,
    *,
    precision: Precision = "fp32",
    calibrate: Path | None = None,
    symmetric: bool = False,
    reference: Callable[[], Candidates] | None = None,
    validate: Path | None = None,
    progress: ExportProgress,
) -> Manifest:
    """Export the ONNX engine of a run to a temporary file and build a plan from it. Needs torch.

    Args:
        run: folder of the run.
        out: the .plan file to write.
        profile: as for `plan_of_engine`.
        precision: as for `export_run`. INT8 is always symmetric: TensorRT takes no zero points.
        calibrate: as for `export_run`.
        symmetric: as for `export_run`.
        reference: as for `export_run`.
        validate: as for `export_run`.
        progress: receives the phases of the export.

    Returns:
        The manifest of the plan.

    Raises:
        MicrosegError: as `export_run` and `plan_of_engine` raise.
    """
    from microseg.export.onnx_export import export_run

    require_out(out)
    chosen = _chosen(profile)
    with tempfile.TemporaryDirectory(prefix="microseg-") as folder:
        source = Path(folder) / "engine.onnx"
        export_run(
            run,
            source,
            precision=precision,
            calibrate=calibrate,
            symmetric=symmetric or precision == "int8",
            reference=reference,
            validate=validate,
            progress=progress,
        )
        progress.begin("building the plan")
        return _build(source, out, *chosen, progress)


def plan_of_engine(source: Path, out: Path, profile: str | None, progress: ExportProgress) -> Manifest:
    """Build a TensorRT plan from an ONNX engine.

    Args:
        source: the .onnx file of an engine.
        out: the .plan file to write; its manifest goes beside it.
        profile: name of a shipped profile, or a YAML file. Default: that of the installed TensorRT.
        progress: receives the phases of the export.

    Returns:
        The manifest of the plan.

    Raises:
        InputError: `source` is not an intact engine, `out` or the profile cannot be used, the build needs a card and there is
            none, or TensorRT refuses.
        GateError: the plan runs on the card of this machine and does not agree with the ONNX file. Nothing is written.
        MissingExtraError: TensorRT is not installed.
    """
    require_out(out)
    return _build(source, out, *_chosen(profile), progress)


def _chosen(name: str | None) -> tuple[str, PlanProfile]:
    return load_profile(name or DEFAULT_PROFILES[installed_flavour()])


def _build(source: Path, out: Path, name: str, profile: PlanProfile, progress: ExportProgress) -> Manifest:
    with EngineFile(source).unchanged() as file:
        manifest = require_portable(file, out)
        require_stride(name, profile, manifest.stride)
        graph, reference = plan_graph(source, profile.keep_probability), file.reference
    built = build(graph, source, name, profile, out.with_name(f"{out.stem}.timing"), progress)
    manifest = manifest.model_copy(update={"plan": _plan_info(name, profile, built, file.sha256, graph)})
    return write_plan(out, built.plan, manifest, source, reference, progress)


def _plan_info(name: str, profile: PlanProfile, built: Built, onnx_sha256: str, graph: bytes) -> PlanInfo:
    gpu = built.gpu
    targets = list(profile.compute_capabilities) if isinstance(profile, RtxProfile) else []
    full = profile if isinstance(profile, FullProfile) else None
    return PlanInfo(
        flavour=profile.flavour,
        tensorrt=built.version,
        profile=name,
        tile_px=profile.tile_px,
        batch=profile.batch,
        gpu=gpu.name if gpu else None,
        compute_capability=gpu.compute_capability if gpu else None,
        cuda_driver=gpu.cuda_driver if gpu else None,
        target_capabilities=targets,
        hardware_compatibility=full.hardware_compatibility if full else "none",
        version_compatible=full.version_compatible if full else False,
        refittable=profile.refittable,
        graph_sha256=graph_sha256(graph) if profile.refittable else None,
        outputs=built.outputs,
        layer_precisions=built.precisions.layers,
        matrix_precisions=built.precisions.matrix,
        engine_precisions=built.engine_precisions,
        onnx_sha256=onnx_sha256,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
    )
