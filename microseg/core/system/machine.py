"""What a figure is measured on, and the key of a machine."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from microseg.core.system.processor import processor_flags, processor_name
from microseg.core.system.processor_count import usable_processors

_INSTRUCTION_SETS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
                     "asimd", "asimddp")  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, instruction sets, number of processors that this process may use, GPUs, system and Python."""
    flags = processor_flags()
    return {
        "processor": processor_name(),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "processors": usable_processors(),
        "gpus": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def machine_key() -> str:
    """16 hex digits that stand for what decides the speed: processor, how many of it, GPUs, operating system."""
    facts = machine()
    kept = {key: facts[key] for key in ("processor", "instruction_sets", "processors", "gpus")}
    text = json.dumps(kept | {"system": platform.system()}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _gpus() -> list[str]:
    """Names of the NVIDIA GPUs that the driver for Linux lists."""
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return found
