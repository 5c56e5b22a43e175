"""Bytes of memory that an engine takes per pixel of a tile, measured in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from microseg.core.errors import InputError
from microseg.runtime import Runtime, choose, open_engine

# Large enough for activations to outweigh the rest, small enough to take seconds.
SIDES_PX = (512, 1024)


def measure_bytes_per_pixel(engine: Path, stride: int) -> float:
    """Slope of the peak resident memory between one small and one large square tile, on the CPU.

    Of ONNX Runtime, or of what this machine would choose, whichever takes more. Raises InputError if it fails.
    """
    sides = [side // stride * stride for side in SIDES_PX]
    slopes = []
    for runtime in {"onnxruntime", choose(engine, device="cpu").runtime}:
        peaks = []
        for side in sides:
            command = [sys.executable, "-m", "microseg.export.memory_footprint", str(engine), str(side), runtime]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise InputError(f"{engine}: running a tile of {side} px failed: {done.stderr.strip()[-400:]}")
            peaks.append(int(done.stdout))
        slopes.append((peaks[1] - peaks[0]) / (sides[1] ** 2 - sides[0] ** 2))
    return max(*slopes, 1.0)


def peak_resident_bytes() -> int:
    """Peak resident memory of this process, bytes."""
    # Linux's ru_maxrss starts from the parent's peak, which holds torch here; the kernel's own mark does not.
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
    """Run one square tile twice and print the peak."""
    tile = np.zeros((1, 1, int(side), int(side)), np.uint8)
    opened = open_engine(Path(engine), device="cpu", runtime=runtime)
    for _ in range(2):
        opened.run(tile)
    print(peak_resident_bytes())


if __name__ == "__main__":
    main(*sys.argv[1:])  # type: ignore[arg-type]
