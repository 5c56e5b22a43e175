"""What a figure was measured on, and how one machine is told from another."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

from microseg.core.system.processors import usable_processors

_INSTRUCTION_SETS = ("avx", "avx2", "fma", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
                     "asimd", "asimddp")  # fmt: skip


def machine() -> dict[str, Any]:
    """Processor, instruction sets, processors that this process may use, GPUs, system and Python."""
    facts = _processor_facts()
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "instruction_sets": [name for name in _INSTRUCTION_SETS if name in flags],
        "processors": usable_processors(),
        "gpus": _gpus(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def machine_key() -> str:
    """16 hex digits that are the same as long as what decides the speed is: processor, how much of it, GPUs, system."""
    facts = machine()
    kept = {key: facts[key] for key in ("processor", "instruction_sets", "processors", "gpus")}
    text = json.dumps(kept | {"system": platform.system()}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def _processor_facts() -> dict[str, str]:
    """The first processor's entry in Linux's list; empty elsewhere."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    pairs = (line.partition(":") for line in text.split("\n\n")[0].splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _gpus() -> list[str]:
    """Names of the NVIDIA GPUs as Linux's driver lists them."""
    found = []
    for path in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        found += [line.partition(":")[2].strip() for line in lines if line.startswith("Model:")]
    return found
