"""`segment`: an engine and a folder of micrographs to a report (DESIGN.md, contract 4)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microseg.core.errors import InputError
from microseg.deploy.names import absolute, extended
from microseg.deploy.profile import set_up
from microseg.runtime import Device, Runtime, begin_loading, open_engine, read_manifest, verified_sha256

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


@dataclass(frozen=True)
class SegmentResult:
    """Where the report is, and its summary (the content of `summary.json`)."""

    report: Path
    summary: dict[str, Any]


def segment(
    options: SegmentOptions,
    on_total: Callable[[int], None] = lambda total: None,
    on_advance: Callable[[float], None] = lambda amount: None,
) -> SegmentResult:
    """Measure every micrograph of the input and write the report. Progress: `on_total` fields, then parts of a field.

    Fields that fail are in the report, with the reason. Raises InputError (nothing done, or the disk is full),
    MissingExtraError, KeyboardInterrupt; what was finished by then is complete, and the same call goes on from there.
    """
    begun = time.monotonic()
    report = _report_folder(options)
    setup = set_up(
        options.engine,
        runtime=options.runtime,
        device=options.device,
        threads=options.threads,
        batch=options.batch,
        use_profile=options.use_profile,
    )
    choice = setup.choice
    with ThreadPoolExecutor(2) as background:
        # Loading the network takes as long as importing the rest, so a first run does both at once.
        loaded = None if report.exists() else begin_loading(background, options.engine, choice)
        manifest = read_manifest(options.engine)
        sha256 = background.submit(verified_sha256, options.engine, manifest)
        from microseg.deploy.station import Station

        station = Station.prepare(options, setup, manifest, report, sha256.result())
        load = (
            partial(open_engine, options.engine, choice.threads, choice.device, choice.runtime, choice.streams)
            if loaded is None
            else partial(loaded, manifest)
        )
        content = station.measure(load, on_total, on_advance, begun)
    return SegmentResult(report, content)


def default_report(path: Path) -> Path:
    """`<name>-report` beside the input. Raises InputError where there is no beside."""
    typed = absolute(path)
    if not typed.name:
        raise InputError(f"{path}: has no folder beside it for the report. Remedy: --out REPORT.")
    return typed.with_name(f"{typed.name}-report")


def _report_folder(options: SegmentOptions) -> Path:
    """The absolute report folder. Raises InputError where it would lie in the input, or the input in it."""
    report = extended(options.out if options.out is not None else default_report(options.input))
    source = options.input.resolve()
    if source.is_dir() and report.resolve().is_relative_to(source):
        raise InputError(
            f"{report}: lies inside the input, and would be measured itself the next time. Remedy: --out beside "
            f"{source}, or none: the report then goes to {default_report(options.input)}."
        )
    return report


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
