"""`microseg export RUN`: fold models -> one self-describing ONNX engine, written only if it agrees with torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.schemas.fidelity import FoldParity
from microseg.core.schemas.manifest import Manifest, Provenance
from microseg.core.schemas.run import RunRecord, RunSummary, read_run
from microseg.core.schemas.tolerance import LIMITS, Precision
from microseg.core.system.files import replacing, require_writable
from microseg.export.calibration_fields import calibration_domain, calibration_tiles, held_out
from microseg.export.fidelity import Judge
from microseg.export.gate import Pair, compare, refuse_beyond_limits
from microseg.export.graph_rewrites import interleaved_by_copies, small_upsampling
from microseg.export.memory_footprint import measure_bytes_per_pixel
from microseg.export.onnx_graph import fold_logits
from microseg.export.precision.reduce import reduce_precision
from microseg.export.reference_tiles import Candidates, add_reference
from microseg.runtime import EngineFile, open_engine
from microseg.runtime.engine_metadata import manifest_entries

VERSIONS = ("microseg", "torch", "onnx", "onnxruntime")


def export_run(
    run: Path,
    out: Path,
    progress: Callable[[str], None] = lambda step: None,
    reference: Callable[[], Candidates] | None = None,
    *,
    precision: Precision = "fp32",
    calibrate: Path | None = None,
    symmetric: bool = False,
) -> Manifest:
    """Write the bag of a finished run as `out` (.onnx) and return its manifest.

    reference: gives the tiles that the engine is to carry for `microseg verify`; none without it.
    precision: of the graph. calibrate: a domain, by default the run's held-out tiles; its fields give INT8 its ranges
    and FP16 its overflows, and join the held-out tiles in what the engine is judged on. symmetric: INT8 as TensorRT
    takes it (`export.int8`).
    Raises InputError (no finished run, weights that changed, unusable `out` or `calibrate`), GateError (the engine does
    not say what torch says; nothing is written).
    """
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
    record, summary = read_run(run)
    held = held_out(run, record.folders)
    tiles = [field.pixels[None, None] for field in held.fields]
    sets = [held] if calibrate is None else [calibration_domain(calibrate, record), held]
    from microseg.export.torch_graph.bag import build_onnx, load_folds, run_torch

    progress("reading the folds")
    networks = load_folds(run, record, summary)
    try:
        with tempfile.TemporaryDirectory(prefix="microseg-") as folder:
            draft = Path(folder) / "engine.onnx"
            progress("building the graph")
            build_onnx(networks, draft)
            if precision == "fp32":
                # INT8 takes what is faster there before it is quantised; FP16 is for cards, which get the plain graph.
                onnx.save(interleaved_by_copies(small_upsampling(onnx.load(draft))), draft)
            manifest = _manifest(run, record, summary, draft)
            _write_manifest(draft, manifest)
            progress("comparing with torch")
            wanted = [run_torch(networks, pixels) for pixels in tiles]
            parity = _compare(draft, tiles, wanted, manifest)
            refuse_beyond_limits(parity)
            judge = Judge(
                sets,
                [phase.name for phase in record.phases],
                record.stride,
                record.halo_px,
                lambda pixels: run_torch(networks, pixels),
            )
            reduced = reduce_precision(
                onnx.load(draft),
                precision,
                calibration_tiles(sets[0].fields, record.stride),
                judge,
                calibrated_on=None if calibrate is None else sets[0].name,
                symmetric=symmetric,
                progress=progress,
            )
            onnx.save(reduced.model, draft)
            manifest = manifest.model_copy(
                update={
                    "precision": precision,
                    "fidelity": reduced.fidelity,
                    "float32_layers": reduced.float32_layers,
                    "quantisation": reduced.quantisation,
                    "model_sha256": EngineFile(draft).hashes.network,
                }
            )
            _write_manifest(draft, manifest)
            if precision != "fp32":
                parity = _compare(draft, tiles, wanted, manifest)
            progress("measuring memory")
            per_pixel = measure_bytes_per_pixel(draft, record.stride)
            manifest = manifest.model_copy(update={"parity": parity, "bytes_per_pixel": per_pixel})
            _write_manifest(draft, manifest)
            if reference is not None:
                add_reference(draft, reference())
            with replacing(out) as part:
                part.write_bytes(draft.read_bytes())
    except OSError as error:
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}). "
            "Remedy: another --out, or room on its disk and in the temporary folder."
        ) from error
    return manifest


def _compare(
    engine_path: Path,
    tiles: Sequence[NDArray[np.uint8]],
    wanted: Sequence[list[NDArray[np.float32]]],
    manifest: Manifest,
) -> list[FoldParity]:
    # Where torch is, a GPU may be; what is compared, and kept, is what every station can compute.
    engine = open_engine(engine_path, device="cpu", runtime="onnxruntime")
    run_folds = _folds_runner(engine_path, len(manifest.phases) == 2)
    pairs = []
    for pixels, theirs in zip(tiles, wanted, strict=True):
        out = engine.run(pixels, probability=True)
        assert out.probability is not None
        pairs.append(Pair(theirs, out.labels[0], out.votes[0], out.probability[0], run_folds(pixels)))
    return compare(pairs, [phase.name for phase in manifest.phases])


def _folds_runner(engine_path: Path, is_of_two: bool) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The folds' probabilities, float32 (F, P, H, W), of one tile: the same graph with its inner logits as outputs."""
    import onnxruntime
    from scipy.special import expit, softmax

    model = onnx.load(engine_path)
    names = fold_logits(model)
    known = {output.name for output in model.graph.output}
    for name in dict.fromkeys(names):
        assert name not in known
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        found = [logits[0, 0] for logits in session.run(names, {"tiles": pixels})]
        if is_of_two:
            second = expit(np.concatenate(found))
            return np.stack([1 - second, second], 1)
        return np.stack([softmax(logits, axis=0) for logits in found])

    return run


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
