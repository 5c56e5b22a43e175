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
# Bytes of the interpreter, the libraries and the pipeline's buffers; bytes that a loaded engine takes per byte of its file; and
# what the runtime's allocator takes beyond the memory that the export measured, as a factor.
_BASE_BYTES = 450e6
_LOADED_PER_FILE_BYTE = 2.5
_ALLOCATOR_SLACK = 1.1
# Batches of a plan under way at once: one is copied while the other is computed.
PLAN_BATCHES = 2
_CUDA_BATCH = 8
_STREAMS = 2
# A smaller tile is mostly halo. The default limit gives way to this size.
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
    """The config with two streams, where a processor computes, its threads are even in number, and memory allows it.

    Threads that share a tile wait for each other after each layer; two tiles side by side need fewer waits.

    Args:
        engine: the engine's file; a damaged manifest leaves the config as it is.
        config: how the engine is run.
        memory_mb: memory to stay within, in 10**6 bytes; None for the default.
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
    """The largest tile, in pixels.

    One stream has tiles of the size that two streams have: the number of streams depends on the threads, and a report may be
    continued with another number of threads.

    Args:
        under_way: pixels of all tiles under way at once; each stream has one tile.
        config: how the engine is run.
    """
    is_one_of_two = config.device == "cpu" and config.streams == 1 and _has_room(under_way)
    return under_way // (_STREAMS if is_one_of_two else config.streams)


def _has_room(under_way: int) -> bool:
    return under_way // _STREAMS >= _SMALLEST_DEFAULT_TILE_PX


def default_batch(manifest: Manifest, config: RuntimeConfig) -> int:
    """Tiles under way at once, where neither the user nor a profile states them."""
    if manifest.plan is not None:
        return PLAN_BATCHES * manifest.plan.batch.opt
    return config.streams if config.device == "cpu" else _CUDA_BATCH


def served_limits(
    manifest: Manifest, engine_bytes: int, memory_mb: int | None, batch: int | None, streams: int
) -> TileLimits:
    """Tiles under way at once of an engine that a server computes. Fields are cut as a station without a GPU cuts them.

    Args:
        manifest: the engine's manifest.
        engine_bytes: size of the engine's file.
        memory_mb: as in `max_tile_pixels`.
        batch: tiles under way at once; None for a server's batch in each stream.
        streams: requests under way at once.

    Raises:
        InputError: `memory_mb` leaves no room for a tile.
    """
    here = RuntimeConfig("tensorrt" if manifest.plan else "onnxruntime", "cuda" if manifest.plan else "cpu", None)
    largest = tile_pixels(max_tile_pixels(manifest, engine_bytes, memory_mb), here)
    each = _CUDA_BATCH if manifest.plan is None else manifest.plan.batch.opt
    return TileLimits(largest, batch or streams * each, streams)


def max_tile_pixels(manifest: Manifest, engine_bytes: int, memory_mb: int | None) -> int:
    """The most pixels of tiles under way at once that keep `segment`, engine included, within a memory limit.

    Args:
        manifest: the engine's manifest. A plan takes the memory that it was built for.
        engine_bytes: size of the engine's file.
        memory_mb: the limit in 10**6 bytes; None for `DEFAULT_MEMORY_MB`, or more where the engine needs more.

    Raises:
        InputError: the limit leaves no room for a tile, or the engine is a plan and has a limit.
    """
    if manifest.plan is not None:
        if memory_mb is not None:
            raise InputError(
                f"--memory-mb {memory_mb}: a plan has fixed memory. Remedy: leave the option out, or build the "
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
        raise InputError(
            f"--memory-mb {memory_mb}: this engine needs at least {least} MB. Remedy: --memory-mb {least}."
        )
    return pixels


def _pixels(engine_bytes: int, bytes_per_pixel: float, memory_mb: int | None) -> int:
    fixed, per_pixel = _bytes(engine_bytes, bytes_per_pixel)
    return int(((memory_mb or DEFAULT_MEMORY_MB) * 1e6 - fixed) / per_pixel)


def _bytes(engine_bytes: int, bytes_per_pixel: float) -> tuple[float, float]:
    """Bytes that do not depend on the tiles, and bytes for each of their pixels."""
    return _BASE_BYTES + _LOADED_PER_FILE_BYTE * engine_bytes, _ALLOCATOR_SLACK * bytes_per_pixel
