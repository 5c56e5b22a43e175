"""`python -m benchmarks.memory`: peak memory of `microseg segment` for few fields, many fields, and one huge field.

With --training: of a short `microseg train supervised` on few labelled fields and on many.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.machine import machine, versions
from microseg.core.system.files import write_json

ENCODER = "resnet18"
# A thin decoder: what is looked at is the pipeline's memory, and tiles are as large as the limit allows for any network.
DECODER = (32, 32, 16, 16, 8)
HEIGHT, WIDTH = 1433, 2048
TIFF_TILE_PX = 512
LIMIT_MB = 2000
# Labelled fields of the trainings, px, and their network: three stages, so that time goes into fields and not into weights.
TRAINING_PX = 256
TRAINING = (
    "encoder.weights=none", "network.decoder_channels=[16,8,8]", "scale=1.0", "tile.core_px=192", "tile.halo_px=16",
    "batch=4", "steps=8", "validate_every=8", "rare_phase_share=0.5",
)  # fmt: skip
_PEAK = "peak resident bytes:"


def main() -> None:
    """Measure, print a table, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--training", action="store_true", help="measure trainings")
    parser.add_argument("--few", type=int, help="5 by default, or 50 labelled ones")
    parser.add_argument("--many", type=int, help="200 by default, or 1000 labelled ones")
    parser.add_argument("--huge-px", type=int, default=20_000, help="side of the huge field")
    parser.add_argument("--folds", type=int, default=1)
    options = parser.parse_args()
    few, many = options.few or (50 if options.training else 5), options.many or (1000 if options.training else 200)
    with tempfile.TemporaryDirectory() as work:
        if options.training:
            found = measure_training(Path(work), few, many)
        else:
            found = measure(Path(work), few, many, options.huge_px, options.folds)
    _report(found)
    if options.json:
        write_json(options.json, found)


def _report(found: dict[str, Any]) -> None:
    if "network" not in found:
        for name, run in found["runs"].items():
            print(f"{name:32s} {run['peak_mb']:7.0f} MB  {run['seconds']:7.1f} s")
        print(f"many over few: {found['ratio_many_to_few']:.3f}")
        return
    for name, run in found["runs"].items():
        print(f"{name:32s} {run['peak_mb']:7.0f} MB  {run['seconds']:7.1f} s  {run['engine_calls']} calls")
    print(f"many over few: {found['ratio_many_to_few']:.3f}; largest peak {found['peak_mb']:.0f} of {LIMIT_MB} MB")


def measure(work: Path, few: int, many: int, huge_px: int, folds: int) -> dict[str, Any]:
    """All figures: `ratio_many_to_few` and `peak_mb`, then every run."""
    from benchmarks.random_engine import write_random_engine
    from microseg.export.memory_footprint import measure_bytes_per_pixel
    from microseg.runtime import EngineFile, read_manifest

    engine = write_random_engine(work / "engine.onnx", ENCODER, folds, 1.0, DECODER)
    bytes_per_pixel = measure_bytes_per_pixel(engine, read_manifest(engine).stride)
    write_random_engine(engine, ENCODER, folds, bytes_per_pixel, DECODER)
    for name, count in (("few", few), ("many", many)):
        write_fields(work / name, count)
    (work / "huge").mkdir()
    _write_huge(work / "huge" / "field.tif", huge_px)
    runs = {
        f"{few} fields of {WIDTH} x {HEIGHT}": _segment(work / "few", engine),
        f"{many} fields of {WIDTH} x {HEIGHT}": _segment(work / "many", engine),
        f"1 field of {huge_px} x {huge_px}": _segment(work / "huge", engine),
    }
    peaks = [run["peak_mb"] for run in runs.values()]
    return {
        "ratio_many_to_few": peaks[1] / peaks[0],
        "peak_mb": max(peaks),
        "runs": runs,
        "network": f"U-Net {ENCODER}, decoder {DECODER}, {folds} folds, random weights",
        "bytes_per_pixel": bytes_per_pixel,
        "versions": versions("microseg", "onnxruntime", "numpy", "opencv-python-headless", "tifffile"),
        "machine": machine(),
        "engine_sha256": EngineFile(engine).sha256,
    }


def measure_training(work: Path, few: int, many: int) -> dict[str, Any]:
    """`ratio_many_to_few` of the peaks of a short training, then both runs."""
    runs = {}
    for count in (few, many):
        folder = work / f"fields{count}"
        _write_labelled(folder, count)
        settings = [text for setting in TRAINING for text in ("--set", setting)]
        command = ["train", "supervised", os.fspath(folder), "--recipe", "synthetic", "--folds", "2", *settings]
        peak, seconds = _peak([*command, "--out", os.fspath(work / f"run{count}")])
        name = f"{count} labelled fields of {TRAINING_PX} x {TRAINING_PX}"
        runs[name] = {"peak_mb": peak / 1e6, "seconds": seconds}
    peaks = [run["peak_mb"] for run in runs.values()]
    return {
        "ratio_many_to_few": peaks[1] / peaks[0],
        "runs": runs,
        "versions": versions("microseg", "torch", "numpy"),
        "machine": machine(),
    }


def _segment(folder: Path, engine: Path) -> dict[str, Any]:
    """One run of `segment`: its peak, its time, and what its report says."""
    peak, seconds = _peak(["segment", os.fspath(folder), "--engine", os.fspath(engine)])
    report = folder.with_name(f"{folder.name}-report")
    summary = json.loads((report / "summary.json").read_text(encoding="utf-8"))
    return {
        "peak_mb": peak / 1e6,
        "seconds": seconds,
        "engine_calls": summary["engine_calls"],
        "max_tile_pixels": summary["settings"]["max_tile_pixels"],
    }


def _peak(command: list[str]) -> tuple[int, float]:
    """Run a command of microseg in a separate process, which reports its peak at its end. Returns bytes and seconds."""
    code = (
        "import sys; from microseg.cli.main import command_line; "
        "from microseg.export.memory_footprint import peak_resident_bytes; "
        f"command_line()(sys.argv[1:], standalone_mode=False); print({_PEAK!r}, peak_resident_bytes())"
    )
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *command], check=True, stdout=subprocess.PIPE, text=True)
    return int(done.stdout.rpartition(_PEAK)[2]), time.perf_counter() - begun


def _write_labelled(folder: Path, count: int) -> None:
    """Smooth noise whose labels are its three grey classes."""
    import tifffile

    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for index in range(count):
        image = _field(TRAINING_PX, TRAINING_PX, index)
        labels = np.digitize(image, (100, 155)).astype(np.uint8)
        tifffile.imwrite(folder / "images" / f"field{index:04d}.tif", image)
        tifffile.imwrite(folder / "masks" / f"field{index:04d}.tif", labels, compression="zlib")


def write_fields(folder: Path, count: int, size_px: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Write fields of one width and height as TIFF files of 8 bits without compression."""
    import tifffile

    folder.mkdir()
    for index in range(count):
        tifffile.imwrite(folder / f"field{index:04d}.tif", _field(size_px[1], size_px[0], index))


def _write_huge(path: Path, side_px: int) -> None:
    """Write a tiled TIFF tile by tile."""
    import tifffile

    tile = _field(TIFF_TILE_PX, TIFF_TILE_PX, 0)
    across = -(-side_px // TIFF_TILE_PX)

    def tiles() -> Iterator[NDArray[np.uint8]]:
        for index in range(across**2):
            yield np.roll(tile, 7 * index, axis=1)

    tifffile.imwrite(
        path,
        tiles(),
        shape=(side_px, side_px),
        dtype=np.uint8,
        tile=(TIFF_TILE_PX, TIFF_TILE_PX),
        photometric="minisblack",
    )


def _field(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Smooth noise over all grey values."""
    import cv2

    noise = np.random.default_rng(seed).standard_normal((height, width), np.float32)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), 6), np.float32)
    return np.asarray((smooth - smooth.min()) * (255 / np.ptp(smooth))).astype(np.uint8)


if __name__ == "__main__":
    main()
