"""Plans that really run: parity with ONNX Runtime on the CPU, buffers, CUDA graphs, two at once, a damaged one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from benchmarks.gpu_check import is_installed, serves
from microseg.core.errors import FieldError, InputError
from microseg.core.schemas.plan import plan_manifest_path
from microseg.export.tensorrt.plan import plan_of_engine
from microseg.export.tensorrt.refit import refit_plan
from microseg.runtime import EngineOutput, open_engine, read_manifest
from microseg.runtime.tensorrt.device import GpuInfo
from microseg.runtime.tensorrt.engine import TensorRTEngine
from tests.plans import Silent, as_engine, half, quantised

PROFILE = "tile_px: {min: 64, opt: 128, max: 192}\nbatch: {min: 1, opt: 2, max: 2}\nkeep_probability: true\n"
# Kernels for another batch may add in another order.
TIES = 0.01
Build = Callable[[str], Path]


@pytest.fixture(scope="session", params=["tensorrt", "tensorrt_rtx"])
def flavour(request: pytest.FixtureRequest, gpu: GpuInfo) -> str:
    """A flavour that is installed and serves this card."""
    name: str = request.param
    if not is_installed(name):
        pytest.skip(f"{name} is not installed")
    if not serves(name, gpu.compute_capability):
        pytest.skip(f"{name} does not serve compute capability {gpu.compute_capability}")
    return name


@pytest.fixture(scope="session")
def build(flavour: str, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Builds the plan of a precision once; its ONNX file lies beside it."""
    folder = tmp_path_factory.mktemp(flavour)
    profile = folder / "small.yaml"
    profile.write_text(f"flavour: {flavour}\n{PROFILE}", encoding="utf-8")

    def built(precision: str) -> Path:
        plan = folder / f"{precision}.plan"
        if not plan.exists():
            onnx = plan.with_suffix(".onnx")
            match precision:
                case "fp16":
                    half(exported, onnx)
                case "int8":
                    quantised(exported, onnx)
                case _:
                    os.link(exported, onnx)
            plan_of_engine(onnx, plan, str(profile), Silent())
        return plan

    return built


def noise(count: int, height: int = 128, width: int = 160, seed: int = 0) -> NDArray[np.uint8]:
    """Tiles in patches of 8 px."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (count, 1, height // 8, width // 8), np.uint8)
    return coarse.repeat(8, 2).repeat(8, 3)


def micrographs(folder: Path) -> NDArray[np.uint8]:
    """Tiles of synthetic fields, uint8 (N, 1, 128, 160)."""
    images = [np.asarray(Image.open(path)) for path in sorted((folder / "images").iterdir())]
    return np.stack([image[top : top + 128, :160] for image in images for top in (0, 22)])[:, None]


def require_equal(found: EngineOutput, wanted: EngineOutput, tolerance: float) -> None:
    """Probabilities within the tolerance, and labels equal wherever it cannot turn them; every value is a number."""
    assert found.probability is not None and wanted.probability is not None
    assert np.isfinite(found.probability).all()
    assert np.abs(found.probability - wanted.probability).max() <= tolerance
    second, first = np.sort(wanted.probability, 1)[:, -2:].swapaxes(0, 1)
    is_sure = first - second > 2 * tolerance
    assert is_sure.mean() > 0.2, "a comparison of ties says nothing"
    assert np.array_equal(found.labels[is_sure], wanted.labels[is_sure])


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 2e-3), ("fp16", 1e-2)])
def test_a_plan_says_what_onnx_runtime_says(build: Build, unseen: Path, precision: str, tolerance: float) -> None:
    plan = build(precision)
    tiles = micrographs(unseen)
    with open_engine(plan.with_suffix(".onnx"), device="cpu", runtime="onnxruntime") as reference:
        wanted = reference.run(tiles, features=True, probability=True)
    with open_engine(plan) as engine:
        found = engine.run(tiles, features=True, probability=True)
        assert "TensorRT" in engine.provider
    require_equal(found, wanted, tolerance)
    assert found.features is not None and np.isfinite(found.features).all()


def test_int8_runs(build: Build, unseen: Path) -> None:
    """Calibrated on noise, so that labels say little; `deploy/gpu-check` verifies those of a trained bag."""
    plan = build("int8")
    tiles = micrographs(unseen)
    with open_engine(plan.with_suffix(".onnx"), device="cpu", runtime="onnxruntime") as reference:
        wanted = reference.run(tiles, probability=True).probability
    with open_engine(plan) as engine:
        found = engine.run(tiles, probability=True).probability
    assert found is not None and wanted is not None and np.isfinite(found).all()
    assert np.abs(found - wanted).mean() < 0.1


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_the_layers_of_the_built_engine_are_known(build: Build, precision: str) -> None:
    info = read_manifest(build(precision)).plan
    assert info is not None and info.gpu is not None and info.engine_precisions
    assert precision in info.engine_precisions


def test_buffers_and_graphs_change_no_label(build: Build) -> None:
    """Every number of tiles, alternating shapes, shapes that return: what a fresh engine says of one tile, less ties."""
    plan = build("fp32")
    shapes = ((128, 160), (64, 64), (192, 192), (128, 160))
    with open_engine(plan) as single:
        wanted = {
            (shape, seed): single.run(noise(1, *shape, seed)).labels[0] for shape in set(shapes) for seed in range(9)
        }
    with open_engine(plan) as engine:
        assert isinstance(engine, TensorRTEngine)
        for _ in range(2):
            for shape in shapes:
                for count in (1, 4, 9, 4, 4, 3):
                    tiles = np.concatenate([noise(1, *shape, seed) for seed in range(count)])
                    labels = engine.run(tiles).labels
                    for seed in range(count):
                        assert np.mean(labels[seed] != wanted[shape, seed]) <= TIES, (shape, count, seed)
        for _ in range(3):
            engine.run(noise(4))
        manifest = read_manifest(plan)
        assert manifest.plan is not None
        if manifest.plan.flavour == "tensorrt":
            assert engine._captures and len(engine._graphs) == 2


def test_memory_is_given_back(build: Build, gpu: GpuInfo) -> None:
    runtime: Any = pytest.importorskip("cuda.bindings.runtime")
    plan = build("fp16")

    def used() -> int:
        status, free, total = runtime.cudaMemGetInfo()
        assert status == runtime.cudaError_t.cudaSuccess
        return int(total - free)

    def once() -> int:
        with open_engine(plan) as engine:
            engine.run(noise(4))
        return used()

    once()
    before = once()
    assert max(once() for _ in range(5)) - before < 32 << 20


def test_two_plans_in_one_process(build: Build) -> None:
    plans = (build("fp32"), build("fp16"))
    tiles = noise(4)
    alone = []
    for plan in plans:
        with open_engine(plan) as engine:
            alone.append(engine.run(tiles).labels)
    with open_engine(plans[0]) as first, open_engine(plans[1]) as second:
        for _ in range(4):
            for engine, wanted in zip((first, second), alone, strict=True):
                assert np.array_equal(engine.run(tiles).labels, wanted)


def test_tiles_that_the_plan_does_not_run(build: Build) -> None:
    with open_engine(build("fp32")) as engine:
        with pytest.raises(FieldError, match="runs tiles of 64 to 192 px a side"):
            engine.run(noise(1, 256, 256))
        assert engine.run(noise(1)).labels.shape == (1, 128, 160)


def test_a_damaged_plan_is_a_message(build: Build, tmp_path: Path) -> None:
    """Its manifest is made to agree, so that TensorRT itself gets to see it."""
    import hashlib

    plan = build("fp32")
    content = bytearray(plan.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    damaged = tmp_path / "damaged.plan"
    damaged.write_bytes(content)
    text = plan_manifest_path(plan).read_text(encoding="utf-8")
    info = read_manifest(plan).plan
    assert info is not None
    changed = text.replace(info.plan_sha256, hashlib.sha256(content).hexdigest())
    plan_manifest_path(damaged).write_text(changed, encoding="utf-8")
    with pytest.raises(InputError, match=r"damaged\.plan: TensorRT.*cannot (open|run) it.*Remedy"):
        open_engine(damaged)


def test_compiled_kernels_are_kept(build: Build, flavour: str) -> None:
    if flavour != "tensorrt_rtx":
        pytest.skip("full TensorRT compiles nothing at its start")
    plan = build("fp32")
    with open_engine(plan) as engine:
        engine.run(noise(2))
    assert plan.with_name("fp32.plan.kernels").stat().st_size > 0


def test_a_refitted_plan_is_that_of_the_other_weights(
    flavour: str, exported: Path, tmp_path: Path, unseen: Path
) -> None:
    profile = tmp_path / "refit.yaml"
    profile.write_text(f"flavour: {flavour}\n{PROFILE}refittable: true\n", encoding="utf-8")
    old, new = tmp_path / "old.plan", tmp_path / "new.plan"
    plan_of_engine(exported, old, str(profile), Silent())
    model = onnx.load(exported)
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim == 4:
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.02), tensor.name))
    changed = as_engine(model, read_manifest(exported), tmp_path / "changed.onnx")
    again = refit_plan(changed, new, old, Silent()).plan
    assert again is not None and again.refittable
    tiles = micrographs(unseen)
    with open_engine(changed, device="cpu", runtime="onnxruntime") as engine:
        wanted = engine.run(tiles, probability=True)
    with open_engine(new) as engine:
        require_equal(engine.run(tiles, probability=True), wanted, 2e-3)
    # And once more: it has not forgotten how.
    refit_plan(exported, tmp_path / "back.plan", new, Silent())
