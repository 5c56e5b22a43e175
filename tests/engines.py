"""A hand-made engine that needs no training and no torch: thresholds on a 3 x 3 mean, one set per fold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from microseg.core.schemas.bag import FoldInfo, PhaseInfo
from microseg.core.schemas.fidelity import FoldParity
from microseg.core.schemas.manifest import Manifest, Provenance
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.export.reference_tiles import Candidates, add_reference
from microseg.runtime import EngineFile, read_manifest
from microseg.runtime.engine_metadata import manifest_entries

COLORS = ("#0072b2", "#e69f00", "#009e73", "#d55e00")


def write_threshold_engine(
    path: Path,
    thresholds: Sequence[Sequence[float]] = ((0.4,), (0.45,)),
    *,
    names: Sequence[str] = ("ferrite", "bainite"),
    domains: Sequence[DomainEntry] = (
        DomainEntry(name="bright"),
        DomainEntry(name="dark", preparation=Preparation(invert=True)),
    ),
    grid: Grid | None = None,
    stride: int = 8,
    halo_px: int = 8,
    bytes_per_pixel: float = 100.0,
) -> Path:
    """Write an engine whose fold f calls a pixel phase p where p of its `thresholds[f]` (0-1) lie below its 3 x 3 mean.

    A pixel at distance 1 from the tile's border sees the padding, so a halo of 1 px makes tiled equal to whole.
    """
    phases = len(names)
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey_255"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["grey_255", "full_scale"], ["grey"]),
        helper.make_node("Pad", ["grey", "pads"], ["padded"], mode="edge"),
        helper.make_node("Conv", ["padded", "mean_kernel"], ["mean"], kernel_shape=[3, 3]),
        helper.make_node("ReduceMean", ["mean", "space"], ["pooled"], keepdims=0),
        helper.make_node("Unsqueeze", ["pooled", "one"], ["feature"]),
    ]
    constants: dict[str, np.ndarray[Any, Any]] = {
        "full_scale": np.array(255.0, np.float32),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "mean_kernel": np.full((1, 1, 3, 3), 1 / 9, np.float32),
        "space": np.array([2, 3], np.int64),
        "one": np.array([1], np.int64),
        "folds": np.array(float(len(thresholds)), np.float32),
    }
    for fold, limits in enumerate(thresholds):
        # logit p = k (p x - sum of the first p limits): adjacent logits cross where x = limit p
        slope = 40.0
        constants[f"weight{fold}"] = (slope * np.arange(phases, dtype=np.float32)).reshape(phases, 1, 1, 1)
        constants[f"bias{fold}"] = (-slope * np.concatenate([[0.0], np.cumsum(limits)])).astype(np.float32)
        nodes += [
            helper.make_node("Conv", ["mean", f"weight{fold}", f"bias{fold}"], [f"logits{fold}"], kernel_shape=[1, 1]),
            helper.make_node("Softmax", [f"logits{fold}"], [f"probability{fold}"], axis=1),
            helper.make_node("ArgMax", [f"probability{fold}"], [f"vote{fold}"], axis=1, keepdims=1),
        ]
    per_fold = range(len(thresholds))
    nodes += [
        helper.make_node("Sum", [f"probability{fold}" for fold in per_fold], ["sum"]),
        helper.make_node("Div", ["sum", "folds"], ["probability"]),
        helper.make_node("ArgMax", ["probability"], ["labels_64"], axis=1, keepdims=0),
        helper.make_node("Cast", ["labels_64"], ["labels"], to=TensorProto.UINT8),
        helper.make_node("Concat", [f"vote{fold}" for fold in per_fold], ["votes_64"], axis=1),
        helper.make_node("Cast", ["votes_64"], ["votes"], to=TensorProto.UINT8),
        helper.make_node("Concat", ["feature" for _ in per_fold], ["features"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "thresholds",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["N", 1, "H", "W"])],
        [
            helper.make_tensor_value_info("labels", TensorProto.UINT8, ["N", "H", "W"]),
            helper.make_tensor_value_info("votes", TensorProto.UINT8, ["N", len(thresholds), "H", "W"]),
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", len(thresholds), 1]),
            helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["N", phases, "H", "W"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    manifest = threshold_manifest(len(thresholds), names, domains, grid or Grid(), stride, halo_px, bytes_per_pixel)
    manifest = manifest.model_copy(update={"model_sha256": EngineFile(path).hashes.network})
    return write_with_metadata(path, model, manifest_entries(manifest))


def write_with_metadata(path: Path, model: onnx.ModelProto, metadata: dict[str, str]) -> Path:
    """Save `model` with these metadata entries and no others."""
    helper.set_model_props(model, metadata)
    onnx.save(model, path)
    return path


def threshold_manifest(
    folds: int,
    names: Sequence[str],
    domains: Sequence[DomainEntry],
    grid: Grid,
    stride: int,
    halo_px: int,
    bytes_per_pixel: float,
) -> Manifest:
    """A manifest as export would write it."""
    no_hash = "0" * 64
    return Manifest(
        phases=[PhaseInfo(name=name, color=COLORS[index]) for index, name in enumerate(names)],
        domains=list(domains),
        default_domain=domains[0].name,
        grid=grid,
        tile_core_px=64,
        halo_px=halo_px,
        stride=stride,
        bytes_per_pixel=bytes_per_pixel,
        folds=[
            FoldInfo(index=fold, miou=0.9, iou=dict.fromkeys(names, 0.9), weights_sha256=no_hash)
            for fold in range(folds)
        ],
        parity=[
            FoldParity(fold=-1, max_probability_difference=0.0, label_disagreement=0.0, fraction_difference_points={})
        ],
        fingerprints=[],
        training_fields=[],
        provenance=Provenance(
            created="2026-11-23T12:00:00Z",
            run="thresholds",
            recipe="by hand",
            seed=0,
            dataset_sha256=no_hash,
            versions={"onnx": onnx.__version__},
        ),
        model_sha256=no_hash,
    )


def rewrite_manifest(engine: Path, path: Path, **changes: Any) -> Path:
    """A copy of an engine whose manifest has other values; its network and hash stay."""
    manifest = read_manifest(engine).model_copy(update=changes)
    return write_with_metadata(path, onnx.load(engine), manifest_entries(manifest))


def with_reference(engine: Path, path: Path) -> Path:
    """A copy of an engine that carries reference tiles of noise with its own labels."""
    path.write_bytes(engine.read_bytes())
    rng = np.random.default_rng(7)
    # Multiples of 5: no mean of nine lies on a threshold, where runtimes may differ.
    tiles = [(f"noise {index}", 5 * rng.integers(0, 52, (64, 64), np.uint8)) for index in range(4)]
    add_reference(path, Candidates("synthetic", tiles))
    return path
