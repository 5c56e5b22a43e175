"""What the user of `segment` may ask for, and what stands where nothing was said."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.errors import InputError
from microseg.runtime import Device, Runtime

if TYPE_CHECKING:
    from microseg.core.manifest import Manifest

DEFAULT_MEMORY_MB = 1900
# Interpreter, libraries and the pipeline's own buffers; what a loaded engine takes per byte of its file; and what the
# runtime's allocator takes beyond the memory that export measured.
_BASE_BYTES = 450e6
_LOADED_PER_FILE_BYTE = 2.5
_ALLOCATOR_SLACK = 1.1
# Batches that a plan has on their way at once: one is copied while the other is computed.
PLAN_BATCHES = 2
_CUDA_BATCH = 8
# Below this a tile is mostly halo; the default limit gives way rather than run so.
_SMALLEST_DEFAULT_TILE_PX = 640 * 640


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


def default_batch(manifest: Manifest, device: Device) -> int:
    """Tiles per call, where neither the user nor a profile says it."""
    if manifest.plan is not None:
        return PLAN_BATCHES * manifest.plan.batch.opt
    return 1 if device == "cpu" else _CUDA_BATCH


def max_tile_pixels(manifest: Manifest, engine_bytes: int, memory_mb: int | None) -> int:
    """The largest tile that keeps `segment` within `memory_mb` (10**6 bytes), engine and all.

    The default is `DEFAULT_MEMORY_MB`, more for an engine too heavy for it. A plan takes what it was built for. Raises
    InputError for a limit that leaves no room for a tile.
    """
    if manifest.plan is not None:
        if memory_mb is not None:
            raise InputError(
                f"--memory-mb {memory_mb}: a plan's memory is fixed when it is built. Remedy: leave it out, or build the "
                "plan for smaller tiles (microseg export ENGINE.onnx --profile)."
            )
        return PLAN_BATCHES * manifest.plan.batch.opt * manifest.plan.tile_px.max**2
    fixed = _BASE_BYTES + _LOADED_PER_FILE_BYTE * engine_bytes
    per_pixel = _ALLOCATOR_SLACK * manifest.bytes_per_pixel
    pixels = int(((memory_mb or DEFAULT_MEMORY_MB) * 1e6 - fixed) / per_pixel)
    if memory_mb is None:
        return max(pixels, _SMALLEST_DEFAULT_TILE_PX)
    side = 2 * math.ceil(manifest.halo_px / manifest.stride) * manifest.stride + 4 * manifest.stride
    if pixels < side**2:
        least = math.ceil((fixed + side**2 * per_pixel) / 1e6)
        raise InputError(f"--memory-mb {memory_mb}: this engine needs at least {least}. Remedy: --memory-mb {least}.")
    return pixels
