"""Whether an NVIDIA GPU can be used, as its driver says."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import cache
from pathlib import Path

# Asked in a process of its own: a broken driver may crash or hang, and CUDA does not survive a fork.
_ASK = """
import ctypes, sys
try:
    cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
except OSError as error:
    sys.exit(f"no driver: {error}")
count, words = ctypes.c_int(), ctypes.c_char_p()
status = cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count))
if status:
    cuda.cuGetErrorString(status, ctypes.byref(words))
    sys.exit(f"the driver says: {(words.value or str(status).encode()).decode()}")
if not count.value:
    sys.exit("the driver shows no GPU")
"""
_LIMIT_S = 60.0


def gpu_present() -> bool:
    """Whether the driver has an NVIDIA GPU that this process may use (`CUDA_VISIBLE_DEVICES` counts)."""
    return gpu_absence() is None


@cache
def gpu_absence() -> str | None:
    """Why no NVIDIA GPU can be used; None where one can. The driver is asked once, and only where its files are."""
    if not _has_files():
        return "none is found"
    command = [sys.executable, "-I", "-S", "-c", _ASK]
    try:
        asked = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=_LIMIT_S
        )
    except subprocess.TimeoutExpired:
        return f"the driver does not answer within {_LIMIT_S:g} s"
    except OSError as error:
        return f"the driver cannot be asked: {error}"
    if asked.returncode == 0:
        return None
    return asked.stderr.strip() or f"asking the driver ended with {asked.returncode}"


def _has_files() -> bool:
    """Whether there are files of a device or a driver."""
    if os.name == "nt":
        return (Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll").is_file()
    # The last is Windows Subsystem for Linux.
    return any(Path("/dev").glob("nvidia[0-9]*")) or Path("/usr/lib/wsl/lib/libcuda.so.1").exists()
