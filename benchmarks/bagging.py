"""`python -m benchmarks.bagging [--json FILE]`: the folds of a bag as separate branches or as stacked weights in one pass.

Stacked weights put the channels of all folds side by side: every convolution is a grouped convolution with one group for
each fold. Each runtime computes both forms in turn, with the same weights on the same tile. Figures are medians.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.machine import machine, versions
from benchmarks.random_engine import build_network
from microseg.core.system.files import write_json
from microseg.core.system.processor_count import usable_processors

if TYPE_CHECKING:
    from torch import Tensor, nn

ENCODER = "resnet18"
HEIGHT, WIDTH = 736, 1024


def main() -> None:
    """Measure, print, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    found = measure(options.folds, options.repeats)
    for runtime, figures in found["runtimes"].items():
        print(
            f"{runtime}: branches {figures['branches']:.2f} s, stacked {figures['stacked']:.2f} s, "
            f"stacked over branches {figures['ratio']:.2f}"
        )
    if options.json:
        write_json(options.json, found)


def measure(folds: int, repeats: int) -> dict[str, Any]:
    """Seconds for a tile by both forms in every runtime. Exits where their logits differ."""
    tile = np.random.default_rng(0).integers(0, 256, (1, 1, HEIGHT, WIDTH)).astype(np.float32)
    networks = [build_network(ENCODER, seed) for seed in range(folds)]
    runtimes: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        paths = {kind: Path(folder) / f"{kind}.onnx" for kind in ("branches", "stacked")}
        _export(_branches(networks), paths["branches"])
        _export(_stacked(networks), paths["stacked"])
        for runtime, load in (("onnxruntime", _onnxruntime), ("openvino", _openvino)):
            runs = {kind: load(path) for kind, path in paths.items()}
            first, second = (run(tile) for run in runs.values())
            np.testing.assert_allclose(first, second, atol=1e-3)
            times: dict[str, list[float]] = {kind: [] for kind in runs}
            for _ in range(repeats):
                for kind, run in runs.items():
                    begun = time.perf_counter()
                    run(tile)
                    times[kind].append(time.perf_counter() - begun)
            seconds = {kind: median(of) for kind, of in times.items()}
            ratio = median(b / a for a, b in zip(times["branches"], times["stacked"], strict=True))
            runtimes[runtime] = {**seconds, "ratio": ratio, "seconds": times}
    return {
        "runtimes": runtimes,
        "folds": folds,
        "network": f"U-Net {ENCODER}, random weights, {WIDTH} x {HEIGHT} px",
        "versions": versions("torch", "onnxruntime", "openvino"),
        "machine": machine(),
    }


def _branches(networks: list[Any]) -> nn.Module:
    import torch

    class Branches(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.networks = torch.nn.ModuleList(networks)

        def forward(self, tiles: Tensor) -> Tensor:
            return torch.cat([network(tiles).logits for network in self.networks], 1)

    return Branches()


def _stacked(networks: list[Any]) -> nn.Module:
    """One network whose convolutions and batch normalisations hold all folds. The first reads a copy of the tile per fold."""
    import copy

    import torch

    folds = len(networks)
    stacked = copy.deepcopy(networks[0])
    parts = [dict(network.named_modules()) for network in networks]
    for name, module in stacked.named_modules():
        same = [part[name] for part in parts]
        for key in ("weight", "bias", "running_mean", "running_var"):
            if isinstance(module, torch.nn.Conv2d | torch.nn.BatchNorm2d) and getattr(module, key, None) is not None:
                joined = torch.cat([getattr(each, key).detach() for each in same])
                value = torch.nn.Parameter(joined) if key in ("weight", "bias") else joined
                setattr(module, key, value)
        if isinstance(module, torch.nn.Conv2d):
            module.groups *= folds
        if isinstance(module, torch.nn.BatchNorm2d):
            module.num_features *= folds

    class Stacked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = stacked

        def forward(self, tiles: Tensor) -> Tensor:
            logits: Tensor = self.network(tiles).logits
            return logits

    # Skips are joined fold by fold, and grey values repeated for each: what the plain network does on axis 1 as a whole.
    stacked.normalised = lambda tiles: ((tiles - networks[0].mean) / networks[0].std).repeat(1, folds, 1, 1)
    for block in stacked.decoder.blocks:
        block.forward = _joining(block, folds)
    return Stacked()


def _joining(block: Any, folds: int) -> Any:
    """The forward pass of a decoder block that keeps the channels of each fold together."""
    import torch
    import torch.nn.functional as F

    def forward(features: Tensor, height: int, width: int, skip_connection: Tensor | None = None) -> Tensor:
        large = F.interpolate(features, size=(height, width), mode="nearest")
        if skip_connection is not None:
            pairs = zip(large.chunk(folds, 1), skip_connection.chunk(folds, 1), strict=True)
            large = torch.cat([part for pair in pairs for part in pair], 1)
        result: Tensor = block.conv2(block.conv1(large))
        return result

    return forward


def _export(module: nn.Module, path: Path) -> None:
    import torch

    torch.onnx.export(
        module.eval(), (torch.zeros(1, 1, HEIGHT, WIDTH),), path, input_names=["tiles"], output_names=["logits"],
        opset_version=18, dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip


def _onnxruntime(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_processors()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda tile: session.run(None, {"tiles": tile})[0]


def _openvino(path: Path) -> Any:
    import openvino

    settings = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    settings["INFERENCE_NUM_THREADS"] = usable_processors()
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda tile: np.array(request.infer({"tiles": tile})["logits"])


if __name__ == "__main__":
    main()
