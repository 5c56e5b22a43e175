"""`microseg export ENGINE.onnx --out bagged.plan`: the portable file -> a TensorRT plan and its manifest. No torch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.plan import Flavour, PlanInfo
from microseg.core.schemas.tolerance import Precision
from microseg.export.tensorrt.build import BuildProgress, Built, build
from microseg.export.tensorrt.plan_file import require_out, require_portable, write_plan
from microseg.export.tensorrt.plan_graph import graph_sha256, plan_graph
from microseg.export.tensorrt.plan_profile import FullProfile, PlanProfile, RtxProfile, load_profile, require_stride
from microseg.runtime import EngineFile
from microseg.runtime.tensorrt.library import installed_flavour

if TYPE_CHECKING:
    from microseg.export.reference_tiles import Candidates

# Without --profile: what most cards of the installed flavour can run.
DEFAULT_PROFILES: dict[Flavour, str] = {"tensorrt_rtx": "rtx-station", "tensorrt": "a100"}


def plan_of_run(
    run: Path,
    out: Path,
    profile: str | None,
    step: Callable[[str], None],
    progress: BuildProgress,
    reference: Callable[[], Candidates] | None = None,
    *,
    precision: Precision = "fp32",
    calibrate: Path | None = None,
    symmetric: bool = False,
) -> Manifest:
    """A run's ONNX engine, through its gate, and the plan built from it. Needs torch. Raises as both halves do.

    INT8 is always symmetric here: TensorRT takes nothing else.
    """
    from microseg.export.onnx_export import export_run

    require_out(out)
    chosen = _chosen(profile)
    with tempfile.TemporaryDirectory(prefix="microseg-") as folder:
        source = Path(folder) / "engine.onnx"
        export_run(
            run, source, progress=step, reference=reference,
            precision=precision, calibrate=calibrate, symmetric=symmetric or precision == "int8",
        )  # fmt: skip
        step("building the plan")
        return _build(source, out, *chosen, progress)


def plan_of_engine(source: Path, out: Path, profile: str | None, progress: BuildProgress) -> Manifest:
    """Build the plan `out` and `out`.json from an ONNX engine and return the manifest.

    profile: a shipped name or a YAML file; by default that of the installed flavour. Raises InputError (a source that
    is no intact engine, an unusable `out`, an unknown profile, no card where the build needs one, TensorRT refuses),
    MissingExtraError, GateError where the plan runs on this machine's card and says otherwise than the ONNX file. Nothing
    is written then.
    """
    require_out(out)
    return _build(source, out, *_chosen(profile), progress)


def _chosen(name: str | None) -> tuple[str, PlanProfile]:
    return load_profile(name or DEFAULT_PROFILES[installed_flavour()])


def _build(source: Path, out: Path, name: str, profile: PlanProfile, progress: BuildProgress) -> Manifest:
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
