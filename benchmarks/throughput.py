"""`python -m benchmarks.throughput`: `microseg segment` against what people run today, on the same weights.

Every peer runs in a process of its own, one after the other, `--repeats` times; figures are medians. The peers' times
are those of decoding, inference and labels, without start, masks, overlays and report; `segment`'s is the whole
command.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine, versions

ENCODER = "resnet18"
WIDTH, HEIGHT = 1024, 717
BYTES_PER_PIXEL = 600.0
TILE_PX, CORE_PX, HALO_PX = 636, 512, 62
MONAI_ROI_PX, MONAI_OVERLAP = 512, 0.25
PEERS = ("naive", "monai", "network", "segment")


def main() -> None:
    """Measure, print a table, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--fields", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for fields, engine and reports (default: temporary)")
    parser.add_argument("--peer", choices=PEERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peer:
        print(json.dumps(_RUN[options.peer](options.work)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options.work or Path(temporary), options.fields, options.repeats)
    _print(found)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def measure(work: Path, fields: int, repeats: int) -> dict[str, Any]:
    """All figures: the ratios at the top, then every raw time."""
    from benchmarks.random_engine import write_random_engine
    from microseg.runtime import engine_sha256
    from microseg.synthetic.folder import write_domain

    work.mkdir(parents=True, exist_ok=True)
    write_domain(work / "domain", "s", fields, 0, size_px=(WIDTH, HEIGHT))
    engine = write_random_engine(work / "engine.onnx", ENCODER, 1, BYTES_PER_PIXEL)
    runs: dict[str, list[dict[str, Any]]] = {peer: [] for peer in PEERS}
    for _ in range(repeats):
        for peer in PEERS:
            command = [sys.executable, "-m", "benchmarks.throughput", "--peer", peer, "--work", str(work)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            runs[peer].append(json.loads(done.stdout.splitlines()[-1]))
            print(f"{peer}: {runs[peer][-1]['seconds']:.2f} s", file=sys.stderr)
    seconds = {peer: [run["seconds"] for run in found] for peer, found in runs.items()}
    # On a machine that others use too, what ran side by side is compared, and the median of the repeats taken.
    over = {peer: [time / s for time, s in zip(seconds[peer], seconds["segment"], strict=True)] for peer in PEERS}
    return {
        "ratio_to_monai": statistics.median(over["monai"]),
        "ratio_to_naive": statistics.median(over["naive"]),
        "outside_network_share": 1 - statistics.median(over["network"]),
        "fields": fields,
        "field_px": [WIDTH, HEIGHT],
        "network": f"U-Net {ENCODER}, one fold, random weights",
        "median_seconds": {peer: statistics.median(times) for peer, times in seconds.items()},
        "over_segment": over,
        "seconds": seconds,
        "settings": {peer: found[-1]["settings"] for peer, found in runs.items()},
        "versions": versions("microseg", "torch", "monai", "onnxruntime", "segmentation-models-pytorch", "numpy"),
        "machine": machine(),
        "engine_sha256": engine_sha256(engine),
    }


def _run_segment(work: Path) -> dict[str, Any]:
    """The command as a user types it, start to end, into a new report."""
    with tempfile.TemporaryDirectory(dir=work) as out:
        command = [
            sys.executable,
            "-c",
            "from microseg.cli.main import main; main()",
            "segment",
            str(work / "domain"),
            "--engine",
            str(work / "engine.onnx"),
            "--out",
            f"{out}/report",
        ]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        seconds = time.perf_counter() - begun
        summary = json.loads(Path(out, "report", "summary.json").read_text(encoding="utf-8"))
    return {"seconds": seconds, "settings": summary["settings"] | summary["run"]}


def _run_network(work: Path) -> dict[str, Any]:
    """The engine alone on the arrays that `segment` prepares, with all threads."""
    from microseg.core.manifest import Grid, Preparation
    from microseg.core.preparation import open_prepared
    from microseg.core.tiling import extract, plan_tiles
    from microseg.deploy.segment import max_tile_pixels
    from microseg.runtime import open_engine

    path = work / "engine.onnx"
    engine = open_engine(path)
    manifest = engine.manifest
    limit = max_tile_pixels(manifest, path.stat().st_size, None)
    batches = []
    for image in _images(work):
        with open_prepared(image, Preparation(), Grid()) as field:
            plan = plan_tiles(*field.shape, manifest.stride, manifest.halo_px, limit)
            batches += [extract(field.rows, tile, *field.shape)[None, None] for tile in plan]
    engine.run(batches[0])
    begun = time.perf_counter()
    for batch in batches:
        engine.run(batch)
    return {
        "seconds": time.perf_counter() - begun,
        "settings": {"provider": engine.provider, "tiles": len(batches), "tile_px": list(batches[0].shape[2:])},
    }


def _run_naive(work: Path) -> dict[str, Any]:
    """A loop over the paper's tiles in torch, as most scripts do it."""

    def labels(forward: Callable[[Any], Any], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import torch

        height, width = image.shape
        down, across = -(-height // CORE_PX) * CORE_PX, -(-width // CORE_PX) * CORE_PX
        pads = ((HALO_PX, down - height + HALO_PX), (HALO_PX, across - width + HALO_PX))
        padded = np.pad(image, pads, mode="reflect")
        result = np.empty((down, across), np.uint8)
        for top in range(0, down, CORE_PX):
            for left in range(0, across, CORE_PX):
                tile = torch.from_numpy(padded[top : top + TILE_PX, left : left + TILE_PX].copy())[None, None].float()
                found = forward(tile).argmax(1)[0, HALO_PX : HALO_PX + CORE_PX, HALO_PX : HALO_PX + CORE_PX]
                result[top : top + CORE_PX, left : left + CORE_PX] = found.numpy()
        return result[:height, :width]

    return _run_torch(work, labels, {"tile_px": TILE_PX, "core_px": CORE_PX})


def _run_monai(work: Path) -> dict[str, Any]:
    """MONAI's sliding window as its users run it."""

    def labels(forward: Callable[[Any], Any], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        import torch
        from monai.inferers.utils import sliding_window_inference

        tile = torch.from_numpy(image)[None, None].float()
        found: Any = sliding_window_inference(tile, MONAI_ROI_PX, 1, forward, overlap=MONAI_OVERLAP)
        return np.asarray(found.argmax(1)[0].to(torch.uint8).numpy())

    return _run_torch(work, labels, {"roi_px": MONAI_ROI_PX, "overlap": MONAI_OVERLAP, "sw_batch_size": 1})


def _run_torch(
    work: Path, labels: Callable[[Callable[[Any], Any], NDArray[np.uint8]], NDArray[np.uint8]], settings: dict[str, Any]
) -> dict[str, Any]:
    """Time `labels` on all fields, with the threads and memory format that are fastest on the first one."""
    import os

    import torch

    from benchmarks.random_engine import build_network
    from microseg.core.micrograph import open_micrograph

    network = build_network(ENCODER)
    images = _images(work)

    def decoded(path: Path) -> NDArray[np.uint8]:
        with open_micrograph(path) as micrograph:
            return np.asarray(micrograph.rows(0, micrograph.height))

    def use(threads: int, is_channels_last: bool) -> Callable[[Any], Any]:
        torch.set_num_threads(threads)
        layout = torch.channels_last if is_channels_last else torch.contiguous_format
        network.to(memory_format=layout)
        return lambda tiles: network.forward_any_size(tiles.contiguous(memory_format=layout)).logits

    def seconds(choice: tuple[int, bool]) -> float:
        forward = use(*choice)
        image = decoded(images[0])
        labels(forward, image)
        begun = time.perf_counter()
        labels(forward, image)
        return time.perf_counter() - begun

    cores = os.cpu_count() or 1
    with torch.inference_mode():
        choices = [(threads, layout) for threads in sorted({cores, max(1, cores // 2)}) for layout in (False, True)]
        tried = {choice: seconds(choice) for choice in choices}
        best = min(tried, key=lambda choice: tried[choice])
        forward = use(*best)
        begun = time.perf_counter()
        for image in images:
            labels(forward, decoded(image))
        total = time.perf_counter() - begun
    trials = [{"threads": t, "channels_last": c, "seconds_per_field": s} for (t, c), s in tried.items()]
    return {"seconds": total, "settings": settings | {"threads": best[0], "channels_last": best[1], "trials": trials}}


def _images(work: Path) -> list[Path]:
    return sorted((work / "domain" / "images").iterdir())


_RUN: dict[str, Callable[[Path], dict[str, Any]]] = {
    "naive": _run_naive,
    "monai": _run_monai,
    "network": _run_network,
    "segment": _run_segment,
}


def _print(found: dict[str, Any]) -> None:
    print(f"{found['fields']} fields of {WIDTH} x {HEIGHT} px, {found['network']}, {found['machine']['processor']}")
    names = {
        "naive": f"torch, {TILE_PX} px tile loop",
        "monai": f"MONAI sliding_window_inference, {MONAI_ROI_PX} px, overlap {MONAI_OVERLAP}",
        "network": "the engine alone (ONNX Runtime)",
        "segment": "microseg segment, end to end",
    }
    for peer, name in names.items():
        seconds = found["median_seconds"][peer]
        print(f"  {name:58s} {seconds:7.2f} s  {seconds / found['fields']:6.3f} s/field")
    print(f"faster than MONAI by {found['ratio_to_monai']:.2f}, than the tile loop by {found['ratio_to_naive']:.2f}")
    print(
        f"outside the network: {100 * found['outside_network_share']:.1f} % of the wall time (medians of the repeats)"
    )


if __name__ == "__main__":
    main()
