"""`microseg export RUN`: fold models -> one self-describing ONNX engine, written only if it agrees with torch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.files import replacing
from microseg.core.manifest import METADATA_KEY, FoldParity, Manifest, Provenance
from microseg.core.runs import RunRecord, RunSummary, read_run
from microseg.export.footprint import measure_bytes_per_pixel
from microseg.export.gate import Pair, compare, refuse_beyond_limits
from microseg.runtime import model_sha256, open_engine

VERSIONS = ("microseg", "torch", "onnx", "onnxruntime")


def export_run(run: Path, out: Path, progress: Callable[[str], None] = lambda step: None) -> Manifest:
    """Write the bag of a finished run as `out` (.onnx) and return its manifest.

    Raises InputError (no finished run, weights that changed, unusable `out`), GateError (the engine does not say what
    torch says; nothing is written).
    """
    if out.suffix.lower() != ".onnx":
        raise InputError(f"--out {out}: engines are .onnx files, or TensorRT plans (.plan).")
    if out.exists():
        raise InputError(f"{out}: exists. Remedy: another --out, or remove it.")
    record, summary = read_run(run)
    tiles = _parity_tiles(run, record.folds)
    from microseg.export.graph import build_onnx, load_folds, run_torch

    progress("reading the folds")
    networks = load_folds(run, record, summary)
    with tempfile.TemporaryDirectory(prefix="microseg-") as folder:
        draft = Path(folder) / "engine.onnx"
        progress("building the graph")
        build_onnx(networks, draft)
        manifest = _manifest(run, record, summary, draft)
        _write_manifest(draft, manifest)
        progress("comparing with torch")
        parity = _compare(draft, tiles, lambda pixels: run_torch(networks, pixels), manifest)
        refuse_beyond_limits(parity)
        progress("measuring memory")
        per_pixel = measure_bytes_per_pixel(draft, record.stride)
        manifest = manifest.model_copy(update={"parity": parity, "bytes_per_pixel": per_pixel})
        _write_manifest(draft, manifest)
        try:
            with replacing(out) as part:
                part.write_bytes(draft.read_bytes())
        except OSError as error:
            raise InputError(f"{out}: cannot be written ({error.strerror or error}). Remedy: another --out.") from error
    return manifest


def _parity_tiles(run: Path, folds: int) -> list[NDArray[np.uint8]]:
    """The held-out tiles that training kept, each uint8 (1, 1, H, W)."""
    paths = [path for fold in range(folds) for path in sorted((run / f"fold{fold}" / "parity").glob("*.png"))]
    if not paths:
        raise InputError(f"{run}: holds no tiles to compare the engine on (fold*/parity). Remedy: train it again.")
    tiles = []
    for path in paths:
        with Image.open(path) as image:
            tiles.append(np.asarray(image, np.uint8)[None, None])
    return tiles


def _compare(
    engine_path: Path,
    tiles: Sequence[NDArray[np.uint8]],
    torch_probabilities: Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]],
    manifest: Manifest,
) -> list[FoldParity]:
    engine = open_engine(engine_path)
    run_folds = _folds_runner(engine_path)
    pairs = []
    for pixels in tiles:
        out = engine.run(pixels, probability=True)
        assert out.probability is not None
        pairs.append(
            Pair(torch_probabilities(pixels), out.labels[0], out.votes[0], out.probability[0], run_folds(pixels))
        )
    return compare(pairs, [phase.name for phase in manifest.phases])


def _folds_runner(engine_path: Path) -> Callable[[NDArray[np.uint8]], NDArray[np.float32]]:
    """The folds' probabilities, float32 (F, P, H, W), of one tile: the same graph with its inner logits as outputs."""
    import onnx
    import onnxruntime
    from scipy.special import softmax

    from microseg.export.graph import fold_logits

    model = onnx.load(engine_path)
    names = fold_logits(model)
    known = {output.name for output in model.graph.output}
    for name in dict.fromkeys(names):
        assert name not in known
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.stack([softmax(logits[0], axis=0) for logits in session.run(names, {"tiles": pixels})])

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
        provenance=Provenance(
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            run=run.resolve().name,
            recipe=record.recipe_name,
            seed=record.seed,
            git_commit=record.git_commit,
            dataset_sha256=record.dataset_sha256,
            versions={name: version(name) for name in VERSIONS},
        ),
        model_sha256=model_sha256(model),
    )


def _write_manifest(path: Path, manifest: Manifest) -> None:
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.model_dump_json()})
    part = path.with_suffix(".new")
    onnx.save(model, part)
    part.replace(path)
