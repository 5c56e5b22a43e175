"""`segment`: an engine and a folder of micrographs to a report (microseg/docs/design.md)."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from microseg.core.errors import InputError
from microseg.core.system.targets import resolved
from microseg.deploy.report.names import absolute, extended
from microseg.deploy.report.settings_file import WORKBOOK
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning.profile import SegmentConfig, segment_config
from microseg.runtime import Engine, EngineFile, begin_loading, open_configured


@dataclass(frozen=True)
class SegmentResult:
    """The result of `segment`.

    Attributes:
        report: the report's folder.
        summary: the content of `summary.json`; of a shard, what the run did.
        is_shard: whether a shard was measured, which `merge` joins with the others.
        place: where the results of a field list are, a folder or a URL; empty for a report of a folder.
    """

    report: Path
    summary: dict[str, Any]
    is_shard: bool = False
    place: str = ""


def segment(
    options: SegmentOptions,
    on_total: Callable[[int], None] = lambda total: None,
    on_advance: Callable[[float], None] = lambda amount: None,
) -> SegmentResult:
    """Measure each micrograph of the input and write the report. The same call again continues an unfinished report.

    Args:
        options: input, engine and settings.
        on_total: gets the number of fields before the first one.
        on_advance: gets fractions of a field, 1.0 in all for each field.

    Returns:
        The report. Fields that fail are in it with the reason.

    Raises:
        InputError: wrong input, engine or settings (nothing is done), or a full disk (finished fields are complete).
        MissingExtraError: the runtime is not installed, or what writes the workbook.
        KeyboardInterrupt: interrupted; finished fields are complete.
    """
    begun = time.monotonic()
    if is_archive(options):
        # Imported here: a folder is measured without it.
        from microseg.deploy.archive.segment import segment_archive

        return segment_archive(options, on_total, on_advance, begun)
    report = report_folder(options)
    has_workbook = _has_workbook(options, report)
    file = EngineFile(options.engine)
    config = config_of(options, file)
    runtime_config = config.runtime_config
    # One processor imports modules while another hashes the engine and, in a first run, loads its network.
    with ThreadPoolExecutor(2) as background:
        hashing = background.submit(lambda: file.hashes)
        loaded = None if report.exists() else begin_loading(background, file, runtime_config)
        manifest = file.manifest
        from microseg.deploy.pipeline.measurement_run import MeasurementRun

        hashing.result()
        run = MeasurementRun.prepare(options, config, manifest, report, file.require_intact().sha256)
        run = replace(run, has_workbook=has_workbook)

        def load() -> Engine:
            with file.unchanged():
                if loaded is not None:
                    return loaded()
                return open_configured(file, runtime_config)

        content = run.measure(load, on_total, on_advance, begun)
    return SegmentResult(report, content)


def is_archive(options: SegmentOptions) -> bool:
    """Whether results are tables: for a field list, or by URL. Raises InputError for options that need a list."""
    if options.input.suffix.lower() == ".parquet" and not options.input.is_dir():
        return True
    if any(given is not None and ":/" in given.as_posix() for given in (options.input, options.out)):
        from microseg.core.storage.objects import url_of

        if any(given is not None and url_of(given) is not None for given in (options.input, options.out)):
            return True
    for option, is_given in (
        ("--shard", options.shard is not None),
        ("--masks", options.masks is not None),
        ("--measure-changed", options.measure_changed),
        ("--on ray", options.ray is not None),
    ):
        if is_given:
            raise InputError(f"{option}: needs a field list, and {options.input} is none. Remedy: microseg list first.")
    return False


def config_of(options: SegmentOptions, file: EngineFile) -> SegmentConfig:
    """How the engine is run. Raises InputError and MissingExtraError, as `segment_config`."""
    return segment_config(
        file,
        runtime=options.runtime,
        device=options.device,
        threads=options.threads,
        batch=options.batch,
        use_profile=options.use_profile,
        memory_mb=options.memory_mb,
    )


def default_report(path: Path) -> Path:
    """`<name>-report` beside the input. Raises InputError where the input has no folder beside it."""
    typed = absolute(path)
    if not typed.name:
        raise InputError(f"{path}: has no folder beside it for the report. Remedy: --out REPORT.")
    return typed.with_name(f"{typed.name}-report")


def _has_workbook(options: SegmentOptions, report: Path) -> bool:
    """Whether the report gets a workbook. Raises MissingExtraError before anything is computed."""
    if not options.xlsx and not (report / WORKBOOK).exists():
        return False
    from microseg.deploy.report.workbook import wants_workbook

    return wants_workbook(report, options.xlsx)


def report_folder(options: SegmentOptions) -> Path:
    """The absolute report folder. Raises InputError where it lies inside the input."""
    report = extended(options.out if options.out is not None else default_report(options.input))
    source = resolved(options.input)
    if source.is_dir() and resolved(report).is_relative_to(source):
        has_beside = bool(absolute(options.input).name)
        default = f", or no --out, which means {default_report(options.input)}" if has_beside else ""
        raise InputError(
            f"{report}: lies inside the input, so the next run would measure its pictures. Remedy: --out outside of "
            f"{source}{default}."
        )
    return report
