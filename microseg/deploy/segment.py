"""`segment`: an engine and a folder of micrographs to a report (DESIGN.md, contract 4)."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from microseg import __version__
from microseg.core.errors import InputError
from microseg.core.files import write_json, write_text
from microseg.core.manifest import Manifest
from microseg.deploy.inputs import SegmentInput, default_report, resolve_input
from microseg.deploy.names import extended
from microseg.deploy.records import ReportSettings, begin_report, check_report, count_left_over, writing
from microseg.deploy.summary import Findings, RunFigures, fields_csv, summary
from microseg.runtime import Device, Engine, engine_sha256, open_engine, read_manifest

DEFAULT_MEMORY_MB = 1900
# Interpreter, libraries and the pipeline's own buffers; what a loaded engine takes per byte of its file; and what the
# runtime's allocator takes beyond the memory that export measured.
_BASE_BYTES = 450e6
_LOADED_PER_FILE_BYTE = 2.5
_ALLOCATOR_SLACK = 1.1
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
    device: Device = "cpu"


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
    manifest = read_manifest(options.engine)
    report = _report_folder(options)
    with ThreadPoolExecutor(2) as background:
        sha256 = background.submit(engine_sha256, options.engine)
        # Loading the network takes as long as importing the rest, so a first run does both at once.
        load = partial(open_engine, options.engine, options.threads, options.device)
        loading = None if report.exists() else background.submit(load)
        from microseg.deploy.pipeline import Pipeline

        given = resolve_input(options.input, manifest, options.domain, options.invert)
        settings = check_report(report, _settings(options, manifest, given, sha256.result()))
    engine: Engine | None = None

    def open_and_begin() -> Engine:
        nonlocal engine
        engine = load() if loading is None else loading.result()
        begin_report(report, settings)
        threading.Thread(target=_import_html, daemon=True).start()
        return engine

    pipeline = Pipeline(
        report=report,
        given=given,
        manifest=manifest,
        pixel_size_um=options.pixel_size_um,
        max_tile_pixels=settings.max_tile_pixels,
        open_engine=open_and_begin,
        batch=options.batch or (1 if options.device == "cpu" else 8),
        on_advance=on_advance,
    )
    on_total(len(given.fields))
    outcomes = pipeline.run()
    begin_report(report, settings)
    findings = Findings(
        settings=settings,
        manifest=manifest,
        outcomes=tuple(outcomes[field.name] for field in given.fields),
        left_over=count_left_over(report, outcomes),
    )
    run = RunFigures(
        engine_calls=engine.runs if engine else 0,
        seconds=round(time.monotonic() - begun, 3),
        fields_measured=len(findings.measured) - pipeline.resumed,
        fields_resumed=pipeline.resumed,
        provider=engine.provider if engine else None,
    )
    return SegmentResult(report, _write_report(report, findings, run))


def _import_html() -> None:
    """Import what the page needs while the network computes, rather than after it."""
    from microseg.deploy.html import load_template

    load_template()


def _write_report(report: Path, findings: Findings, run: RunFigures) -> dict[str, Any]:
    from microseg.deploy.html import report_html

    content = summary(findings, run)
    with writing(report):
        write_text(report / "fields.csv", fields_csv(findings))
        write_text(report / "report.html", report_html(report, findings))
        write_json(report / "summary.json", content)
    return content


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


def _settings(options: SegmentOptions, manifest: Manifest, given: SegmentInput, sha256: str) -> ReportSettings:
    return ReportSettings(
        microseg=__version__,
        input=given.title,
        engine=options.engine.name,
        engine_sha256=sha256,
        domain=given.domain,
        preparation=given.preparation,
        pixel_size_um=options.pixel_size_um,
        fallback_pixel_size_um=given.fallback_pixel_size_um,
        max_tile_pixels=max_tile_pixels(manifest, options.engine.stat().st_size, options.memory_mb),
        device=options.device,
        created=datetime.now(UTC).astimezone().date().isoformat(),
    )


def max_tile_pixels(manifest: Manifest, engine_bytes: int, memory_mb: int | None) -> int:
    """The largest tile that keeps `segment` within `memory_mb` (10**6 bytes), engine and all.

    The default is `DEFAULT_MEMORY_MB`, more for an engine too heavy for it. Raises InputError for a limit that leaves
    no room for a tile.
    """
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
