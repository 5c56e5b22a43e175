"""The measurements of microseg in `benchmarks.throughput`, and the processor's peak."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

_COMMAND = "from microseg.cli.main import main; main()"
# `segment` with a clock on the first call of an engine, put there while the runtime's module is imported.
_FIRST_INFERENCE = """
import importlib.util, sys, time

class Clock:
    def find_spec(self, name, path, target=None):
        if name not in ("microseg.runtime.onnx_engine", "microseg.runtime.openvino.engine"):
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            engine = module.OnnxEngine if hasattr(module, "OnnxEngine") else module.OpenVinoEngine
            run = engine.run

            def timed(self, *tiles, **wanted):
                print("first inference:", time.time(), flush=True)
                engine.run = run
                return run(self, *tiles, **wanted)

            engine.run = timed

        spec.loader.exec_module = exec_module
        return spec

sys.meta_path.insert(0, Clock())
"""
_SGEMM_SIDE, _SGEMM_REPEATS = 3000, 8


def images(work: Path) -> list[Path]:
    """The fields of the benchmark."""
    return sorted((work / "domain" / "images").iterdir())


def run_segment(engine: Path, fields: Sequence[Path], work: Path) -> dict[str, Any]:
    """The command as a user types it, from start to end, into a new report, without caches of an earlier start."""
    engine.with_name(f"{engine.name}.openvino").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(dir=work) as folder:
        source = Path(folder, "fields")
        source.mkdir()
        for field in fields:
            (source / field.name).symlink_to(field)
        command = ["segment", str(source), "--engine", str(engine), "--out", f"{folder}/report", "--no-profile"]
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", _COMMAND, *command], check=True, capture_output=True)
        seconds = time.perf_counter() - begun
        summary = json.loads(Path(folder, "report", "summary.json").read_text(encoding="utf-8"))
        assert summary["fields"]["measured"] == len(fields)
    return {"seconds": seconds, "settings": summary["settings"] | summary["run"]}


def run_start(engine: Path, field: Path, work: Path) -> dict[str, Any]:
    """Seconds from the start of the interpreter to the first inference of `segment`, at the second start with this engine."""
    with tempfile.TemporaryDirectory(dir=work) as folder:
        for number in range(2):
            command = ["segment", str(field), "--engine", str(engine), "--out", f"{folder}/report{number}"]
            begun = time.time()
            done = subprocess.run(
                [sys.executable, "-c", _FIRST_INFERENCE + _COMMAND, *command],
                check=True,
                capture_output=True,
                text=True,
            )
        at = next(line for line in done.stdout.splitlines() if line.startswith("first inference:"))
    return {"seconds": float(at.rpartition(":")[2]) - begun, "settings": {}}


def run_network(path: Path, fields: Sequence[Path], threads: int | None) -> dict[str, Any]:
    """The engine alone on the arrays that `segment` prepares, in as many streams. threads: None for all."""
    from microseg.core.preparation.prepared_field import open_prepared
    from microseg.core.preparation.tiling import extract, plan_tiles
    from microseg.core.schemas.preparation import Grid, Preparation
    from microseg.deploy.pipeline.tile_memory import max_tile_pixels, tile_pixels
    from microseg.deploy.tuning.profile import segment_config
    from microseg.runtime import open_engine

    config = segment_config(
        path, runtime=None, device=None, threads=threads, batch=None, use_profile=False
    ).runtime_config
    engine = open_engine(path, config.threads, config.device, config.runtime, config.streams)
    manifest = engine.manifest
    limit = tile_pixels(max_tile_pixels(manifest, path.stat().st_size, None), config)
    batches = []
    for image in fields:
        with open_prepared(image, Preparation(), Grid()) as field:
            plan = plan_tiles(*field.shape, manifest.stride, manifest.halo_px, limit)
            batches += [extract(field.rows, tile, *field.shape)[None, None] for tile in plan]
    with ThreadPoolExecutor(config.streams) as streams:
        list(streams.map(engine.run, batches[:1] * config.streams))
        begun = time.perf_counter()
        for _ in streams.map(engine.run, batches):
            pass
        seconds = time.perf_counter() - begun
    settings = {
        "runtime": f"{engine.config.runtime} {engine.version}",
        "threads": config.threads,
        "streams": config.streams,
        "tiles": len(batches),
        "tile_px": list(batches[0].shape[2:]),
    }
    return {"seconds": seconds, "settings": settings}


def sgemm() -> dict[str, Any]:
    """The best rate of a large float32 matrix product, by the libraries of NumPy, torch and ONNX Runtime.

    The libraries differ by processor: on an AMD Zen 5 one reaches twice the rate of another.
    """
    import torch

    from microseg.core.system.processor_count import usable_processors

    torch.set_num_threads(usable_processors())
    a = np.random.default_rng(0).random((_SGEMM_SIDE, _SGEMM_SIDE), np.float32)
    tensor, session = torch.from_numpy(a), _product_session(usable_processors())
    products: dict[str, Callable[[], Any]] = {
        "numpy": lambda: a @ a,
        "torch": lambda: tensor @ tensor,
        "onnxruntime": lambda: session.run(None, {"a": a}),
    }
    best = dict.fromkeys(products, np.inf)
    for _ in range(_SGEMM_REPEATS):
        for name, product in products.items():
            begun = time.perf_counter()
            product()
            best[name] = min(best[name], time.perf_counter() - begun)
    gflops = {name: 2e-9 * _SGEMM_SIDE**3 / seconds for name, seconds in best.items()}
    return {"seconds": min(best.values()), "gflops": max(gflops.values()), "settings": gflops}


def _product_session(threads: int) -> Any:
    """An ONNX Runtime session for the product of a square matrix with itself."""
    import onnxruntime
    from onnx import TensorProto, helper

    shape = (_SGEMM_SIDE, _SGEMM_SIDE)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["a", "a"], ["product"])],
        "product",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def gflop(path: Path, height: int, width: int) -> float:
    """10**9 multiplications and additions of the convolutions of an ONNX graph for a field, mirrored to multiples of 32.

    A graph of one fixed size is counted at that size; the count grows in proportion to the pixels.
    """
    import onnx

    model = onnx.load(path)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    wanted = (1, 1, -(-height // 32) * 32, -(-width // 32) * 32)
    for dim, value in zip(dims, wanted, strict=True):
        if not dim.dim_value:
            dim.dim_value = value
    counted = [dim.dim_value for dim in dims]
    del model.graph.value_info[:]
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.output)
    }
    weights = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    found = sum(
        2e-9 * float(np.prod(shapes[node.output[0]])) * float(np.prod(weights[node.input[1]][1:]))
        for node in model.graph.node
        if node.op_type == "Conv"
    )
    return found * float(np.prod(wanted)) / float(np.prod(counted))
