"""Bytes of memory that an engine takes for each pixel of a tile, measured in separate processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from microseg.core.errors import InputError
from microseg.runtime import Runtime, choose, open_engine

# Large enough for activations to dominate the memory, small enough to take seconds.
SIDES_PX = (512, 1024)


def measure_bytes_per_pixel(engine: Path, stride: int) -> float:
    """The slope of peak resident memory over tile size, between a small and a large square tile on the CPU.

    It is measured with ONNX Runtime and with the runtime that this machine would choose. The larger figure counts.

    Args:
        engine: the .onnx file.
        stride: height and width of a tile are multiples of it, px.

    Returns:
        Bytes per pixel, at least 1.

    Raises:
        InputError: the engine cannot run a tile.
    """
    sides = [side // stride * stride for side in SIDES_PX]
    slopes = []
    for runtime in {"onnxruntime", choose(engine, device="cpu").runtime}:
        peaks = []
        for side in sides:
            command = [sys.executable, "-m", "microseg.export.memory_footprint", str(engine), str(side), runtime]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise InputError(
                    f"{engine}: a tile of {side} px cannot be computed by {runtime} ({done.stderr.strip()[-400:]}). "
                    "Remedy: free memory, or export on a machine with more of it."
                )
            peaks.append(int(done.stdout))
        slopes.append((peaks[1] - peaks[0]) / (sides[1] ** 2 - sides[0] ** 2))
    return max(*slopes, 1.0)


def peak_resident_bytes() -> int:
    """Peak resident memory of this process in bytes."""
    # On Linux ru_maxrss starts from the peak of the parent process, which holds torch here. VmHWM does not.
    status = Path("/proc/self/status")
    if status.is_file():
        marks = [line.split()[1] for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if marks:
            return 1024 * int(marks[0])
    import psutil

    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):
        return int(memory.peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def main(engine: str, side: str, runtime: Runtime) -> None:
    """Run one square tile of `side` px twice and print the peak of the resident memory in bytes."""
    tile = np.zeros((1, 1, int(side), int(side)), np.uint8)
    opened = open_engine(Path(engine), device="cpu", runtime=runtime)
    for _ in range(2):
        opened.run(tile)
    print(peak_resident_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
