"""ONNX Runtime's CUDA provider, and a training step in bf16."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from microseg.runtime import open_engine
from microseg.runtime.tensorrt.device import GpuInfo
from tests.gpu.test_plans import micrographs, require_equal


def test_the_cuda_provider_says_what_the_cpu_says(gpu: GpuInfo, exported: Path, unseen: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("ONNX Runtime has no CUDA provider here (pip install 'microseg[gpu]')")
    tiles = micrographs(unseen)
    with open_engine(exported, device="cpu", runtime="onnxruntime") as engine:
        wanted = engine.run(tiles, probability=True)
    with open_engine(exported, device="cuda") as engine:
        assert engine.provider == "CUDAExecutionProvider"
        found = engine.run(tiles, probability=True)
    # It multiplies float32 in TensorFloat-32 by default.
    require_equal(found, wanted, 2e-2)


def test_a_training_step_in_bf16_is_finite(gpu: GpuInfo) -> None:
    import torch

    from benchmarks.gpu_steps import training_speed

    if not torch.cuda.is_available() or not torch.cuda.is_bf16_supported():
        pytest.skip("torch sees no GPU with bf16 here")
    found = training_speed(2, encoder="resnet18", core_px=128, halo_px=16, batch=2)
    assert np.isfinite(list(found["losses"].values())).all()
    assert found["steps_per_second"] > 0 and found["torch_peak_memory_mb"] > 0
