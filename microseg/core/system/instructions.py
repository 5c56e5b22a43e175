"""Whether this processor multiplies 8-bit integers without saturating."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microseg.core.schemas.fidelity import Quantisation

# x86: without one of these, pairs of 8-bit products are added in 16 bits, where full-range weights saturate.
_VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
_BELOW = ("avx2", "avx512bw")
_X86 = ("x86_64", "amd64")


def instruction_sets(cpuinfo: Path = Path("/proc/cpuinfo")) -> list[str]:
    """Those that decide how 8-bit products are added, as Linux names them; empty on other systems."""
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return []
    flags = {flag for line in text.splitlines() if line.startswith("flags") for flag in line.partition(":")[2].split()}
    return [name for name in (*_VNNI, *_BELOW) if name in flags]


def weight_bits(found: list[str], machine: str = platform.machine()) -> int:
    """8, or 7 for x86 processors on which 8-bit weights saturate, or of which that is unknown."""
    return 8 if machine.lower() not in _X86 or any(name in _VNNI for name in found) else 7


def saturation_notice(made: Quantisation | None, found: list[str]) -> str | None:
    """What to say of an engine that was `made` with 8-bit weights on a processor where these saturate; None for any other."""
    if made is None or made.weight_bits == 7 or not found or weight_bits(found) == 8:
        return None
    return (
        "this processor has no VNNI, on which the engine's 8-bit weights rely: sums may saturate. Remedy: microseg verify, "
        "or export INT8 on such a processor."
    )
