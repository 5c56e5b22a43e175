"""The folds of a run as one ONNX engine that describes itself. It is written only if it agrees with torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path

import onnx

from microseg.agreement.check_table import require_agreement
from microseg.agreement.torch_parity import parity_table
from microseg.core.errors import InputError
from microseg.core.schemas.manifest import EngineAdaptation, Manifest, Provenance
from microseg.core.schemas.run import RunRecord, RunSummary, read_run
from microseg.core.schemas.tolerance import LIMITS, Precision
from microseg.core.schemas.validation import Validation
from microseg.core.system.files import replacing, require_writable
from microseg.export.alarm_calibration import alarm_of_run, with_held_out
from microseg.export.calibration_fields import calibration_domain, calibration_tiles, held_out
from microseg.export.graph_rewrites import interleaved_by_copies, small_upsampling
from microseg.export.memory_footprint import measure_bytes_per_pixel
from microseg.export.precision.gate import PrecisionGate
from microseg.export.precision.reduce import Reduced, reduce_precision
from microseg.export.progress import ExportProgress, SilentProgress
from microseg.export.reference_tiles import Candidates, add_reference
from microseg.export.torch_comparison import TorchComparison
from microseg.export.validations import kept_cross_validation, refuse_trained_fields, validations_of
from microseg.runtime import EngineFile
from microseg.runtime.engine_metadata import manifest_entries

VERSIONS = ("microseg", "torch", "onnx", "onnxruntime")
_PARITY_REMEDY = "check the weights of the run for infinities, or use other versions of torch and onnxruntime"


def export_run(
    run: Path,
    out: Path,
    *,
    precision: Precision = "fp32",
    calibrate: Path | None = None,
    symmetric: bool = False,
    reference: Callable[[], Candidates] | None = None,
    validate: Path | None = None,
    progress: ExportProgress | None = None,
) -> Manifest:
    """Write the folds of a finished run as one ONNX engine, if it agrees with torch.

    Args:
        run: folder of the run.
        out: the .onnx file to write.
        precision: what the engine computes in.
        calibrate: a domain whose fields give INT8 its ranges and show where FP16 overflows. The engine is compared with
            torch on these fields and on the held-out tiles of the run. Default: on the held-out tiles alone.
        symmetric: INT8 without zero points, as TensorRT takes it.
        reference: gives the tiles that the engine carries for `microseg verify`. Default: it carries none.
        validate: labelled fields that trained nothing; the engine carries what it finds on them. Default: none.
        progress: receives the phases of the export.

    Returns:
        The manifest of the engine.

    Raises:
        InputError: no finished run, changed weights, an `out`, `calibrate` or `validate` that cannot be used.
        GateError: the engine does not agree with torch. Nothing is written.
    """
    reported = progress or SilentProgress()
    _require_options(out, precision, symmetric)
    record, summary = read_run(run)
    held = held_out(run, record.folders)
    refuse_trained_fields(validate, record.fields)
    kept = kept_cross_validation(run, record, summary)
    sets = [held] if calibrate is None else [calibration_domain(calibrate, record), held]
    from microseg.export.torch_graph.bag import build_onnx, load_folds, run_torch

    reported.begin("reading the folds")
    networks = load_folds(run, record, summary)
    phases = [phase.name for phase in record.phases]
    torch_folds = partial(run_torch, networks)
    with _refused_where_unwritable(out), tempfile.TemporaryDirectory(prefix="microseg-") as folder:
        draft = Path(folder) / "engine.onnx"
        reported.begin("building the graph")
        build_onnx(networks, draft)
        if precision == "fp32":
            # INT8 gets its own rewrites before it is quantised. FP16 is for cards, which get the plain graph.
            onnx.save(interleaved_by_copies(small_upsampling(onnx.load(draft))), draft)
        manifest = _manifest(run, record, summary, draft)
        _write_manifest(draft, manifest)
        reported.begin("comparing with torch")
        torch = TorchComparison([field.pixels[None, None] for field in held.fields], torch_folds, phases)
        parity = torch.measure(draft)
        require_agreement(parity_table(parity), "The engine", "torch", _PARITY_REMEDY)
        gate = PrecisionGate(sets, phases, stride=record.stride, halo_px=record.halo_px, torch=torch_folds)
        reduced = reduce_precision(
            onnx.load(draft),
            precision,
            calibration_tiles(sets[0].fields, record.stride),
            gate,
            calibrated_on=None if calibrate is None else sets[0].name,
            symmetric=symmetric,
            progress=reported.begin,
        )
        onnx.save(reduced.model, draft)
        manifest = _with_reduction(manifest, reduced, precision, EngineFile(draft).hashes.network)
        _write_manifest(draft, manifest)
        parity = parity if precision == "fp32" else torch.measure(draft)
        validations = partial(validations_of, draft, kept, record, validate, reported)
        manifest = manifest.model_copy(update={"parity": parity})
        manifest = _with_findings(draft, manifest, record, kept, validations, reported)
        if reference is not None:
            add_reference(draft, reference())
        with replacing(out) as part:
            part.write_bytes(draft.read_bytes())
    return manifest


def _with_findings(
    draft: Path,
    manifest: Manifest,
    record: RunRecord,
    kept: Validation | None,
    validations: Callable[[], list[Validation]],
    progress: ExportProgress,
) -> Manifest:
    """The manifest with what the finished engine shows of itself, written into its file."""
    progress.begin("measuring memory")
    per_pixel = measure_bytes_per_pixel(draft, manifest.stride)
    manifest = manifest.model_copy(update={"bytes_per_pixel": per_pixel})
    _write_manifest(draft, manifest)
    progress.begin("validating")
    manifest = manifest.model_copy(update={"alarm": alarm_of_run(with_held_out(record, kept), draft, progress)})
    # The alarm looks at the fields that validate.
    _write_manifest(draft, manifest)
    manifest = manifest.model_copy(update={"validations": validations()})
    _write_manifest(draft, manifest)
    return manifest


@contextmanager
def _refused_where_unwritable(out: Path) -> Iterator[None]:
    """Errors of the system within a block are an InputError about the engine that is written."""
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}). "
            "Remedy: another --out, or room on its disk and in the temporary folder."
        ) from error


def _require_options(out: Path, precision: Precision, symmetric: bool) -> None:
    if precision not in LIMITS:
        raise InputError(f"--precision {precision}: unknown. Remedy: {', '.join(LIMITS)}.")
    if symmetric and precision != "int8":
        raise InputError(f"--symmetric: is for --precision int8, not {precision}. Remedy: leave it out.")
    if out.suffix.lower() != ".onnx":
        raise InputError(
            f"--out {out}: engines are .onnx files, or TensorRT plans (.plan). Remedy: --out {out.name}.onnx."
        )
    if out.exists():
        raise InputError(f"{out}: exists. Remedy: another --out, or remove it.")
    require_writable(out)


def _with_reduction(manifest: Manifest, reduced: Reduced, precision: Precision, sha256: str) -> Manifest:
    return manifest.model_copy(
        update={
            "precision": precision,
            "fidelity": reduced.fidelity,
            "float32_layers": reduced.float32_layers,
            "quantisation": reduced.quantisation,
            "model_sha256": sha256,
        }
    )


def _adaptation(record: RunRecord, summary: RunSummary) -> EngineAdaptation | None:
    """What the networks learned from a target; None where the unadapted ones were kept."""
    adapted, decision = record.adaptation, summary.adaptation
    if adapted is None or decision is None or decision.chosen == decision.candidates[0].name:
        return None
    chosen = next((each for each in decision.candidates if each.name == decision.chosen), None)
    estimates = chosen.estimates if chosen else None
    return EngineAdaptation(
        domain=adapted.target.name,
        fields=adapted.fields,
        disagreement=estimates and estimates.disagreement,
        limit=estimates and estimates.limit,
    )


def _manifest(run: Path, record: RunRecord, summary: RunSummary, model: Path) -> Manifest:
    return Manifest(
        phases=record.phases,
        domains=record.domains,
        default_domain=record.domains[-1].name,
        grid=record.grid,
        tile_core_px=record.tile_core_px,
        halo_px=record.halo_px,
        stride=record.stride,
        bytes_per_pixel=1.0,
        folds=summary.folds,
        parity=[],
        fingerprints=summary.fingerprints,
        training_fields=record.fields,
        adaptation=_adaptation(record, summary),
        trained_pixel_sizes=record.trained_pixel_sizes,
        distillation=summary.distillation,
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            run=run.resolve().name,
            recipe=record.recipe_name,
            seed=record.seed,
            git_commit=record.git_commit,
            dataset_sha256=record.dataset_sha256,
            versions={name: version(name) for name in VERSIONS},
        ),
        model_sha256=EngineFile(model).hashes.network,
    )


def _write_manifest(path: Path, manifest: Manifest) -> None:
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, manifest_entries(manifest))
    part = path.with_suffix(".new")
    onnx.save(model, part)
    part.replace(path)
