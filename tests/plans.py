"""What tests of plans share: the RTX builder where it is installed, and engines of other precisions."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.plan import PlanInfo, SizeRange, plan_manifest_path
from microseg.runtime import EngineFile, read_manifest
from microseg.runtime.engine_metadata import manifest_entries, text_beside
from tests.engines import write_with_metadata

needs_rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx_bindings") is None or importlib.util.find_spec("cuda.bindings") is None,
    reason="TensorRT for RTX is not installed (pip install 'microseg[tensorrt-rtx]')",
)


class Silent:
    """Export progress that keeps the names of the phases and what was told."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.open: set[str] = set()
        self.notices: list[str] = []

    def begin(self, phase: str, steps: int = 0) -> None:
        self.phases.append(phase)
        self.open.add(phase)

    def step(self, phase: str) -> None:
        assert phase in self.open

    def end(self, phase: str) -> None:
        self.open.discard(phase)

    def notice(self, text: str) -> None:
        self.notices.append(text)


def as_engine(model: onnx.ModelProto, manifest: Manifest, path: Path, **changes: Any) -> Path:
    """Save a changed model as an intact engine: with a manifest that has its hash."""
    write_with_metadata(path, model, {})
    manifest = manifest.model_copy(update={"model_sha256": EngineFile(path).hashes.network, **changes})
    return write_with_metadata(path, model, manifest_entries(manifest))


def half(engine: Path, path: Path, blocked: list[str] | None = None) -> Path:
    """The same engine in float16, less the operators that are `blocked`, which stay in float32."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    model = convert_float_to_float16(onnx.load(engine), keep_io_types=True, op_block_list=blocked)
    return as_engine(model, read_manifest(engine), path, precision="fp16")


def quantised(engine: Path, path: Path, *, symmetric: bool = True) -> Path:
    """The same engine with its convolutions in int8 (QDQ); TensorRT takes the symmetric form alone."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Tiles(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = 2

        def get_next(self) -> dict[str, Any] | None:
            if not self.left:
                return None
            self.left -= 1
            return {"tiles": np.random.default_rng(self.left).integers(0, 256, (1, 1, 64, 64), np.uint8)}

    draft = path.with_suffix(".draft")
    logging.getLogger().setLevel(logging.ERROR)
    quantize_static(
        engine,
        draft,
        Tiles(),
        quant_format=QuantFormat.QDQ,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["Conv"],
        extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True, "QuantizeBias": False},
    )
    return as_engine(onnx.load(draft), read_manifest(engine), path, precision="int8")


def plan_info(content: bytes, **changes: Any) -> PlanInfo:
    """What a manifest says of the plan `content`, built on an RTX A4000 by full TensorRT."""
    info = PlanInfo(
        flavour="tensorrt",
        tensorrt="11.4.0.106",
        profile="l4",
        tile_px=SizeRange(min=16, opt=32, max=64),
        batch=SizeRange(min=1, opt=2, max=2),
        gpu="NVIDIA RTX A4000",
        compute_capability="8.6",
        cuda_driver="13.0",
        outputs=["labels", "votes", "features"],
        layer_precisions={"fp32": 3},
        matrix_precisions={"fp32": 1},
        onnx_sha256="0" * 64,
        plan_sha256=hashlib.sha256(content).hexdigest(),
    )
    return info.model_copy(update=changes)


def write_plan(engine: Path, path: Path, content: bytes = b"no real plan", **changes: Any) -> Path:
    """A .plan file of any content with an intact manifest and reference tiles, those of `engine`, beside it."""
    path.write_bytes(content)
    manifest = read_manifest(engine).model_copy(update={"plan": plan_info(content, **changes)})
    plan_manifest_path(path).write_text(text_beside(manifest, EngineFile(engine).reference), encoding="utf-8")
    return path
