"""The processor's name and instruction sets, and whether it multiplies 8-bit integers without saturating."""

from __future__ import annotations

import platform
from collections.abc import Collection
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from microseg.core.schemas.fidelity import Quantisation

# x86: without one of these, pairs of 8-bit products are added in 16 bits, where full-range weights saturate.
_VNNI = ("avx512_vnni", "avx_vnni", "amx_int8")
_BELOW = ("avx2", "avx512bw")
_X86 = ("x86_64", "amd64")


@cache
def processor_flags() -> frozenset[str]:
    """The instruction sets of this processor in Linux's spelling, on every system; empty where they cannot be found out."""
    # Imported here: it takes 50 ms, and `segment` asks for an INT8 engine alone.
    from archspec.cpu.detect import detected_info

    try:
        return frozenset(detected_info().features)
    except Exception:  # archspec reads what an operating system gives, and states no errors of its own
        return frozenset()


@cache
def processor_name() -> str:
    """The processor's name as its maker writes it, else the name of its architecture."""
    name = _name_in(Path("/proc/cpuinfo")) or platform.processor()
    if platform.system() in ("Windows", "Darwin"):
        from archspec.cpu.detect import brand_string

        with suppress(Exception):  # as above
            name = brand_string() or name
    return " ".join(name.split()) or platform.machine()


def instruction_sets(flags: Collection[str] | None = None) -> list[str]:
    """The instruction sets that decide how 8-bit products are added.

    Args:
        flags: what to choose from; by default `processor_flags`.
    """
    found = processor_flags() if flags is None else flags
    return [name for name in (*_VNNI, *_BELOW) if name in found]


def weight_bits(found: list[str], machine: str = platform.machine()) -> int:
    """Bits of the weights of an INT8 engine: 8, or 7 for x86 processors where 8 saturate or where that is unknown.

    Args:
        found: what `instruction_sets` returns.
        machine: the architecture, as `platform.machine` names it.
    """
    return 8 if machine.lower() not in _X86 or any(name in _VNNI for name in found) else 7


def saturation_notice(made: Quantisation | None, found: list[str]) -> str | None:
    """The notice for an engine with 8-bit weights on a processor where these saturate; None for any other.

    Args:
        made: how the engine was quantised; None for a float engine.
        found: what `instruction_sets` returns; empty where it is unknown.
    """
    if made is None or made.weight_bits == 7 or not found or weight_bits(found) == 8:
        return None
    return (
        "this processor has no VNNI, which the engine's 8-bit weights need: sums may saturate. Remedy: run microseg verify, "
        "or export the INT8 engine on a processor like this one."
    )


def _name_in(cpuinfo: Path) -> str:
    try:
        text = cpuinfo.read_text(encoding="utf-8")
    except OSError:
        return ""
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(names, "")
