"""The measurements of `deploy/gpu-check`, each in a separate process: `python -m benchmarks.gpu_steps STEP ...`.

Prints its figures as one line of JSON. Throughput counts from prepared tiles to labels and votes in host memory, copies
included. All engines get the same tiles as far as their limits allow it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import MicrosegError
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.preparation.tiling import extract, plan_tiles
from microseg.core.schemas.manifest import Manifest
from microseg.deploy.pipeline.inputs import resolve_input
from microseg.deploy.pipeline.tile_memory import PLAN_BATCHES, max_tile_pixels
from microseg.runtime import open_engine, read_manifest

Labels = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Batches = list[NDArray[np.uint8]]

BATCH = 8
WARM_UP_STEPS = 3
PAPER_EPOCHS = 3000


def arguments() -> argparse.ArgumentParser:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    engine = steps.add_parser("engine", help="throughput of an engine")
    engine.add_argument("engine", type=Path)
    peer = steps.add_parser("torch", help="throughput of a run's networks in PyTorch")
    peer.add_argument("run", type=Path)
    peer.add_argument("like", type=Path, help="the run's ONNX engine, for its preparation")
    peer.add_argument("--half", action="store_true", help="autocast to float16")
    peer.add_argument("--compile", action="store_true", help="torch.compile")
    together = steps.add_parser("together", help="two plans in one process")
    together.add_argument("engines", type=Path, nargs=2)
    for command in (engine, peer, together):
        command.add_argument("--fields", type=Path, required=True, help="micrographs, as for `segment`")
        command.add_argument("--seconds", type=float, default=10)
    engine.add_argument("--device", choices=["cpu", "cuda", "tensorrt"])
    training = steps.add_parser("training", help="steps of AdaptSegNet as the reference study trained it")
    training.add_argument("--steps", type=int, default=30)
    return parser


def main() -> None:
    """Run one step and print its figures on the last line. A failure prints one message and exits with 1."""
    options = arguments().parse_args()
    try:
        match options.step:
            case "engine":
                found = engine_speed(options.engine, options.fields, options.seconds, options.device)
            case "torch":
                found = torch_speed(
                    options.run, options.like, options.fields, options.seconds,
                    half=options.half, compiled=options.compile,
                )  # fmt: skip
            case "together":
                found = together_speed(options.engines, options.fields, options.seconds)
            case _:
                found = training_speed(options.steps)
    except MicrosegError as error:
        print(error, file=sys.stderr)
        raise SystemExit(1) from error
    print(json.dumps(found))


def engine_speed(path: Path, folder: Path, seconds: float, device: Any = None) -> dict[str, Any]:
    """Figures of an engine in this process."""
    with open_engine(path, device=device) as engine:
        batches, fields, megapixels = prepared_batches(engine.manifest, path, folder)

        def run(batch: NDArray[np.uint8]) -> Labels:
            out = engine.run(batch)
            return out.labels, out.votes

        provider = {"provider": engine.provider, "version": engine.version}
        return provider | timed(run, batches, fields, megapixels, seconds)


def torch_speed(
    run: Path, like: Path, folder: Path, seconds: float, *, half: bool, compiled: bool, device: str = "cuda"
) -> dict[str, Any]:
    """Figures of the same bag in PyTorch: channels last, kernels chosen by cuDNN, float32 without TensorFloat-32."""
    import torch

    from microseg.core.schemas.run import read_run
    from microseg.export.torch_graph.bag import Bag, load_folds

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = True
    batches, fields, megapixels = prepared_batches(read_manifest(like), like, folder)
    bag: Any = Bag(load_folds(run, *read_run(run))).eval().to(device).to(memory_format=torch.channels_last)
    if compiled:
        bag = torch.compile(bag)

    def forward(batch: NDArray[np.uint8]) -> Labels:
        with torch.inference_mode(), torch.autocast(device, torch.float16, enabled=half):
            out = bag(torch.from_numpy(batch).to(device))
            return out.labels.cpu().numpy(), out.votes.cpu().numpy()

    version = {"provider": f"PyTorch{', compiled' if compiled else ''}", "version": torch.__version__}
    return version | timed(forward, batches, fields, megapixels, seconds)


def together_speed(paths: Sequence[Path], folder: Path, seconds: float) -> dict[str, Any]:
    """Figures of two open engines in turn. Raises MicrosegError where their labels differ from those that each gives alone."""
    alone = []
    for path in paths:
        with open_engine(path) as engine:
            batches, fields, megapixels = prepared_batches(engine.manifest, path, folder)
            alone.append([engine.run(batch).labels for batch in batches])
    with open_engine(paths[0]) as first, open_engine(paths[1]) as second:

        def run(batch: NDArray[np.uint8]) -> Labels:
            return first.run(batch).labels, second.run(batch).labels

        for number, batch in enumerate(batches):
            for path, labels, found in zip(paths, (wanted[number] for wanted in alone), run(batch), strict=True):
                if not np.array_equal(found, labels):
                    share = float(np.mean(found != labels))
                    raise MicrosegError(f"{path}: {100 * share:.4f} % of its labels change beside another engine.")
        return timed(run, batches, fields, megapixels, seconds)


def training_speed(
    steps: int,
    *,
    encoder: str = "resnet101",
    device: str = "cuda",
    core_px: int = 512,
    halo_px: int = 62,
    batch: int = 8,
    reduced: bool = True,
) -> dict[str, Any]:
    """Steps of AdaptSegNet: DeepLabv2, two discriminators, `batch` source and as many target tiles, random weights.

    reduced: in bf16. The tiles are on the device before the clock starts. The hours are those of the recipe
    `uda-adaptsegnet-paper`, with the 3,000 epochs of the paper.
    """
    import torch

    from benchmarks.uda_step import Trained, ours, random_tiles
    from microseg.train.recipe_files import load_uda_recipe

    trained = Trained({"name": encoder, "weights": "none"}, device)
    rng = np.random.default_rng(0)
    tiles = [random_tiles(rng, core_px + 2 * halo_px, batch, device) for _ in range(2)]
    is_cuda = device == "cuda"
    begun = 0.0
    for step in range(WARM_UP_STEPS + steps):
        if step == WARM_UP_STEPS:
            if is_cuda:
                torch.cuda.synchronize()
            begun = time.perf_counter()
        losses = ours(trained, tiles[step % 2], core_px, reduced=reduced)
        trained.step()
        if not np.isfinite(sum(losses.values())):
            raise MicrosegError(f"a loss became no number at step {step + 1}: {losses}.")
    if is_cuda:
        torch.cuda.synchronize()
    per_second = steps / (time.perf_counter() - begun)
    paper_steps = load_uda_recipe("uda-adaptsegnet-paper", [])[1].steps
    return {
        "steps_per_second": per_second,
        "torch_peak_memory_mb": torch.cuda.max_memory_allocated() / 1e6 if is_cuda else None,
        "paper_epochs": PAPER_EPOCHS,
        "paper_steps": paper_steps,
        "hours_of_the_paper": paper_steps / per_second / 3600,
        "losses": losses,
        "network": f"DeepLabv2 {encoder}, {batch} + {batch} tiles of {core_px + 2 * halo_px} px"
        f"{', bf16' if reduced else ''}",
    }


def prepared_batches(manifest: Manifest, engine: Path, folder: Path) -> tuple[Batches, int, float]:
    """Tiles of all micrographs as the engine gets them, in batches of one shape; the fields; native megapixels."""
    limit = max_tile_pixels(manifest, engine.stat().st_size, None)
    by_shape: dict[tuple[int, ...], list[NDArray[np.uint8]]] = {}
    given = resolve_input(folder, manifest, None, {})
    pixels = 0
    for source in given.fields:
        with open_prepared(
            source.path, given.preparation_of(source), manifest.grid, ScaleRules(assumed=given.assumed)
        ) as field:
            pixels += field.native_shape[0] * field.native_shape[1]
            for tile in plan_tiles(*field.shape, manifest.stride, manifest.halo_px, limit, manifest.max_side_px):
                found = extract(field.rows, tile, *field.shape)
                by_shape.setdefault(found.shape, []).append(found)
    size = BATCH if manifest.plan is None else PLAN_BATCHES * manifest.plan.batch.opt
    batches = [
        np.stack(tiles[start : start + size])[:, None]
        for tiles in by_shape.values()
        for start in range(0, len(tiles), size)
    ]
    return batches, len(given.fields), pixels / 1e6


def timed(
    run: Callable[[NDArray[np.uint8]], Labels], batches: Batches, fields: int, megapixels: float, seconds: float
) -> dict[str, Any]:
    """Passes over all batches for at least `seconds`, after two passes that do not count. Figures of the median pass."""
    for batch in 2 * batches:
        run(batch)
    passes: list[float] = []
    begun = time.perf_counter()
    while not passes or time.perf_counter() - begun < seconds:
        start = time.perf_counter()
        for batch in batches:
            run(batch)
        passes.append(time.perf_counter() - start)
    median = float(np.median(passes))
    return {
        "fields_per_second": fields / median,
        "megapixels_per_second": megapixels / median,
        "tile_px": [int(side) for side in batches[0].shape[:1:-1]],
        "batch": len(batches[0]),
        "passes": passes,
    }


if __name__ == "__main__":
    main()
