"""The size and number of tiles under way that a memory limit allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from microseg.core.errors import InputError
from microseg.runtime import EngineFile, RuntimeConfig

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest

DEFAULT_MEMORY_MB = 1900
# Interpreter, libraries and the pipeline's own buffers; what a loaded engine takes per byte of its file; and what the
# runtime's allocator takes beyond the memory that export measured.
_BASE_BYTES = 450e6
_LOADED_PER_FILE_BYTE = 2.5
_ALLOCATOR_SLACK = 1.1
# Batches that a plan has on their way at once: one is copied while the other is computed.
PLAN_BATCHES = 2
_CUDA_BATCH = 8
_STREAMS = 2
# Below this a tile is mostly halo; the default limit gives way rather than run so.
_SMALLEST_DEFAULT_TILE_PX = 640 * 640


@dataclass(frozen=True)
class TileLimits:
    """How many tiles are under way at once, and how large they are.

    Attributes:
        max_tile_pixels: the largest tile in pixels.
        batch: tiles under way at once; one in each call at least.
        streams: calls of the engine under way at once.
    """

    max_tile_pixels: int
    batch: int
    streams: int


def side_by_side(engine: EngineFile, config: RuntimeConfig, memory_mb: int | None) -> RuntimeConfig:
    """The config, with two tiles computed side by side where a processor computes and memory allows it.

    Threads that share a tile wait for each other after every layer, and all of them for one that the reader or the writer
    keeps from working. memory_mb: as `max_tile_pixels` has it. What cannot be read of the engine is not told here.
    """
    if config.device != "cpu" or config.streams != 1 or config.threads is None or config.threads % _STREAMS:
        return config
    try:
        per_pixel = float(engine.unchecked_manifest["bytes_per_pixel"])
    except (ValueError, KeyError, TypeError):
        return config  # the check of the manifest reports what is wrong
    fits = _has_room(_pixels(engine.size_bytes, per_pixel, memory_mb))
    return replace(config, streams=_STREAMS) if fits else config


def tile_pixels(under_way: int, config: RuntimeConfig) -> int:
    """The largest tile, where `under_way` pixels of tiles may be under way: each stream has one.

    One stream has no larger tiles than two would: how many there are depends on the threads, and a report goes on with any.
    """
    is_one_of_two = config.device == "cpu" and config.streams == 1 and _has_room(under_way)
    return under_way // (_STREAMS if is_one_of_two else config.streams)


def _has_room(under_way: int) -> bool:
    return under_way // _STREAMS >= _SMALLEST_DEFAULT_TILE_PX


def default_batch(manifest: Manifest, config: RuntimeConfig) -> int:
    """Tiles under way at once, where neither the user nor a profile says it."""
    if manifest.plan is not None:
        return PLAN_BATCHES * manifest.plan.batch.opt
    return config.streams if config.device == "cpu" else _CUDA_BATCH


def max_tile_pixels(manifest: Manifest, engine_bytes: int, memory_mb: int | None) -> int:
    """The most pixels of tiles under way that keep `segment` within `memory_mb` (10**6 bytes), engine and all.

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
    pixels = _pixels(engine_bytes, manifest.bytes_per_pixel, memory_mb)
    if memory_mb is None:
        return max(pixels, _SMALLEST_DEFAULT_TILE_PX)
    side = 2 * math.ceil(manifest.halo_px / manifest.stride) * manifest.stride + 4 * manifest.stride
    if pixels < side**2:
        fixed, per_pixel = _bytes(engine_bytes, manifest.bytes_per_pixel)
        least = math.ceil((fixed + side**2 * per_pixel) / 1e6)
        raise InputError(f"--memory-mb {memory_mb}: this engine needs at least {least}. Remedy: --memory-mb {least}.")
    return pixels


def _pixels(engine_bytes: int, bytes_per_pixel: float, memory_mb: int | None) -> int:
    fixed, per_pixel = _bytes(engine_bytes, bytes_per_pixel)
    return int(((memory_mb or DEFAULT_MEMORY_MB) * 1e6 - fixed) / per_pixel)


def _bytes(engine_bytes: int, bytes_per_pixel: float) -> tuple[float, float]:
    """What is taken whatever the tiles, and for each of their pixels."""
    return _BASE_BYTES + _LOADED_PER_FILE_BYTE * engine_bytes, _ALLOCATOR_SLACK * bytes_per_pixel
