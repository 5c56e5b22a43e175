"""What the user of `segment` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from microseg.runtime import Device, Runtime


@dataclass(frozen=True)
class SegmentOptions:
    """What the user asked for; None is the default that `segment` documents."""

    input: Path
    engine: Path
    out: Path | None = None
    domain: str | None = None
    pixel_size_um: float | None = None
    invert: bool | None = None
    batch: int | None = None
    threads: int | None = None
    memory_mb: int | None = None
    device: Device | None = None
    runtime: Runtime | None = None
    use_profile: bool = True
