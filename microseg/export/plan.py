"""`microseg export ENGINE.onnx --out bagged.plan`: the portable file -> a TensorRT plan and its manifest. No torch."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.errors import FieldError, GateError, InputError, MissingExtraError
from microseg.core.manifest import Flavour, Manifest, PlanInfo, Precision, SizeRange, plan_manifest_path
from microseg.core.reference import Reference, unpack
from microseg.core.tolerance import LIMITS
from microseg.export.plan_graph import plan_graph
from microseg.export.profile import FullProfile, Profile, RtxProfile, load_profile, require_stride
from microseg.export.tensorrt_build import BuildProgress, Built, build
from microseg.runtime import is_plan, open_engine, read_manifest, verified_sha256
from microseg.runtime.comparison import Record, check_reference
from microseg.runtime.container import read_reference, text_beside
from microseg.runtime.tensorrt_library import installed_flavour

if TYPE_CHECKING:
    from microseg.export.reference import Candidates

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
    from microseg.export.engine import export_run

    _require_out(out)
    chosen = _chosen(profile)
    with tempfile.TemporaryDirectory(prefix="microseg-") as folder:
        source = Path(folder) / "engine.onnx"
        export_run(
            run, source, step, reference,
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
    _require_out(out)
    return _build(source, out, *_chosen(profile), progress)


def _require_out(out: Path) -> None:
    if not is_plan(out):
        raise InputError(f"--out {out}: a TensorRT plan is a .plan file. Remedy: --out {out.with_suffix('.plan')}.")
    for path in (out, plan_manifest_path(out)):
        if path.exists():
            raise InputError(f"{path}: exists. Remedy: another --out, or remove it.")


def _chosen(name: str | None) -> tuple[str, Profile]:
    return load_profile(name or DEFAULT_PROFILES[installed_flavour()])


def _build(source: Path, out: Path, name: str, profile: Profile, progress: BuildProgress) -> Manifest:
    manifest = read_manifest(source)
    if manifest.plan is not None:
        raise InputError(f"{source}: is a plan already. Remedy: give the .onnx file that it was built from.")
    sha256 = verified_sha256(source, manifest)
    if manifest.quantisation is not None and manifest.quantisation.activations == "asymmetric":
        raise InputError(
            f"{source}: is quantised with zero points, which TensorRT does not take. Remedy: export it with --symmetric, or "
            f"build the plan from the run: microseg export RUN --out {out} --precision int8."
        )
    require_stride(name, profile, manifest.stride)
    reference = _fitting(read_reference(source), profile.tile_px, len(manifest.folds))
    graph = plan_graph(source, profile.keep_probability)
    built = build(graph, source, name, profile, out.with_name(f"{out.stem}.timing"), progress)
    manifest = manifest.model_copy(update={"plan": _plan_info(name, profile, built, sha256)})
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder:
            draft = Path(folder) / out.name
            draft.write_bytes(built.plan)
            beside = plan_manifest_path(draft)
            beside.write_text(text_beside(manifest, reference), encoding="utf-8")
            if built.gpu is not None:
                manifest = _compared(draft, source, out, manifest, reference, progress)
                beside.write_text(text_beside(manifest, reference), encoding="utf-8")
            # The plan last: a manifest alone is harmless, a plan without one is not. Kernels compiled meanwhile come along.
            for path in sorted(Path(folder).iterdir(), key=lambda path: path == draft):
                path.replace(out.with_name(path.name))
    except OSError as error:
        with suppress(OSError):
            plan_manifest_path(out).unlink()
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}). Remedy: free space there, or another --out."
        ) from error
    return manifest


def _compared(
    draft: Path, source: Path, out: Path, manifest: Manifest, reference: Reference | None, progress: BuildProgress
) -> Manifest:
    """The manifest, marked as verified once the plan says on this card what the ONNX file said about the reference tiles.

    As it was, with a notice, where there are no tiles or the plan cannot run here. Raises GateError beyond the limits.
    """
    assert manifest.plan is not None
    if reference is None:
        progress.notice(f"{out}: not compared with {source}, which carries no reference tiles of its sizes")
        return manifest
    record = Record([phase.name for phase in manifest.phases], LIMITS[manifest.precision])
    step = "comparing with the ONNX file"
    progress.begin(step, 0)
    try:
        with open_engine(draft) as engine:
            figures = check_reference(record, engine, reference)
    except (InputError, MissingExtraError, FieldError) as error:
        progress.notice(f"not compared with {source} here: {str(error).replace(str(draft), str(out))}")
        return manifest
    finally:
        progress.end(step)
    if not record.passed:
        failed = [f"{row.check} {row.found}, limit {row.limit}" for row in record.checks if not row.passed]
        phase, points = max(figures.fraction_difference_points.items(), key=lambda item: item[1])
        raise GateError(
            f"{out}: the plan disagrees with {source} by {figures.provider}: {'; '.join(failed)}. Of the phases, {phase} "
            f"moved most, by {points:.3g} points. Nothing was written. Remedy: another --precision or --profile, or the "
            ".onnx file itself."
        )
    plan = manifest.plan.model_copy(update={"verified": True, "comparison": figures})
    return manifest.model_copy(update={"plan": plan})


def _fitting(reference: Reference | None, tile_px: SizeRange, folds: int) -> Reference | None:
    """The reference tiles that a plan of such tiles runs; None where none are left."""
    if reference is None:
        return None
    tiles = [
        tile
        for tile in reference.tiles
        if all(tile_px.min <= side <= tile_px.max for side in unpack(tile, folds)[0].shape)
    ]
    return reference.model_copy(update={"tiles": tiles}) if tiles else None


def _plan_info(name: str, profile: Profile, built: Built, onnx_sha256: str) -> PlanInfo:
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
        outputs=built.outputs,
        layer_precisions=built.precisions.layers,
        matrix_precisions=built.precisions.matrix,
        engine_precisions=built.engine_precisions,
        onnx_sha256=onnx_sha256,
        plan_sha256=hashlib.sha256(built.plan).hexdigest(),
    )
