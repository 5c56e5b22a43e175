"""`microseg segment INPUT --engine ENGINE`: phase fractions of micrographs, and a report."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import typer

from microseg.cli.measure.options import (
    ActorsOption,
    AddressOption,
    AllowColouredOption,
    AssumeScaleOption,
    BatchOption,
    ChannelOption,
    CpusPerActorOption,
    CropOption,
    DecimalCommaOption,
    DeviceOption,
    DomainOption,
    EngineOption,
    ForceScaleOption,
    GpusPerActorOption,
    InputArgument,
    InvertOption,
    JsonOption,
    KeepDataBarOption,
    KeepPaddingOption,
    MasksOption,
    MeasureChangedOption,
    MemoryOption,
    PageOption,
    PixelSizeOption,
    ProfileOption,
    RayOption,
    RegionOption,
    ReportOption,
    RequireScaleOption,
    RuntimeOption,
    SectionsOption,
    ShardOption,
    ThreadsOption,
    WorkbookOption,
    crop_of,
    ray_of,
)
from microseg.core.plain_text import plain_name

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console
    from rich.progress import Progress

    from microseg.deploy.segment import SegmentResult
    from microseg.deploy.segment_options import SegmentOptions

_NOTHING = "\N{EN DASH}"
# Of notices on fields: names in a line, and texts of a kind.
_NAMES, _TEXTS = 3, 5
_SECTIONS = 20


def segment(
    input_path: InputArgument,
    engine: EngineOption,
    out: ReportOption = None,
    domain: DomainOption = None,
    pixel_size_um: PixelSizeOption = None,
    invert: InvertOption = None,
    allow_coloured: AllowColouredOption = None,
    crop: CropOption = None,
    roi: RegionOption = None,
    page: PageOption = None,
    channel: ChannelOption = None,
    keep_data_bar: KeepDataBarOption = None,
    keep_padding: KeepPaddingOption = None,
    batch: BatchOption = None,
    threads: ThreadsOption = None,
    memory_mb: MemoryOption = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = None,
    use_profile: ProfileOption = True,
    assume_engine_scale: AssumeScaleOption = False,
    require_scale: RequireScaleOption = False,
    force_scale: ForceScaleOption = False,
    sections: SectionsOption = None,
    shard: ShardOption = None,
    masks: MasksOption = None,
    measure_changed: MeasureChangedOption = False,
    on: RayOption = None,
    address: AddressOption = None,
    actors: ActorsOption = None,
    cpus_per_actor: CpusPerActorOption = None,
    gpus_per_actor: GpusPerActorOption = None,
    json_path: JsonOption = None,
    decimal_comma: DecimalCommaOption = None,
    xlsx: WorkbookOption = False,
) -> None:
    """Measure the phase fractions of micrographs. Write masks, overlays, tables and a report to sign."""
    from microseg.deploy.segment_options import SegmentOptions

    if json_path is not None:
        from microseg.core.system.files import require_writable

        require_writable(json_path, (engine, input_path))
    result = _measured(
        SegmentOptions(
            input=input_path,
            engine=engine,
            out=out,
            domain=domain,
            pixel_size_um=pixel_size_um,
            invert=invert,
            allow_coloured=allow_coloured,
            crop=crop_of(crop),
            roi=roi,
            page=page,
            channel=channel,
            keep_data_bar=keep_data_bar,
            keep_padding=keep_padding,
            batch=batch,
            threads=threads,
            memory_mb=memory_mb,
            device=device.value if device else None,
            runtime=runtime.value if runtime else None,
            use_profile=use_profile,
            decimal_comma=decimal_comma,
            assume_engine_scale=assume_engine_scale,
            require_scale=require_scale,
            force_scale=force_scale,
            sections=sections,
            xlsx=xlsx,
            shard=shard,
            masks=masks,
            measure_changed=measure_changed,
            ray=ray_of(on, address, actors, cpus_per_actor, gpus_per_actor),
        )
    )
    _tell(result, json_path)


def _tell(result: SegmentResult, json_path: Path | None) -> None:
    """Print and write what was found. Raises typer.Exit where fields failed."""
    if result.is_shard:
        _print_shard(result)
    else:
        print_summary(result.summary)
        report = f"{result.place}/report.html" if result.place else str(result.report / "report.html")
        typer.echo(f"Report: {plain_name(report)}")
    if json_path is not None:
        from microseg.core.system.files import write_json, writing

        with writing(json_path):
            write_json(json_path, result.summary)
    for failed in result.summary["failed"]:
        typer.echo(f"failed: {plain_name(failed['reason'])}", err=True)
    if result.summary["failed"]:
        raise typer.Exit(3)


def _print_shard(result: SegmentResult) -> None:
    """Print what the run of a shard did."""
    done = result.summary
    failed = f", {len(done['failed'])} failed" if done["failed"] else ""
    resumed = f", {done['resumed']} had a result" if done["resumed"] else ""
    typer.echo(f"Shard {done['shard']}: {done['measured']} of {done['fields']} fields measured{resumed}{failed}")
    typer.echo(f"Results: {plain_name(result.place)}; join them with: microseg merge")


def _measured(options: SegmentOptions) -> SegmentResult:
    """Run the stage, with a progress bar where standard error is a terminal."""
    from microseg.deploy.segment import segment as run

    if sys.stderr is None or not sys.stderr.isatty():  # a service may have closed it
        return run(options, lambda total: _use_one_opencv_thread(), lambda amount: _import_tables())
    with _progress() as progress:
        task = progress.add_task("segment", total=None)

        def begin(total: int) -> None:
            _use_one_opencv_thread()
            progress.update(task, total=total)

        return run(options, begin, lambda amount: progress.advance(task, amount))


def _use_one_opencv_thread() -> None:
    """Leave the processors to the network; OpenCV's threads only compete with it. This process runs nothing else."""
    import cv2

    cv2.setNumThreads(1)


def _progress() -> Progress:
    """A progress bar with finished fields, fields per second and the remaining time."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.2g} fields/s")

    columns = (
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total} fields"),
        Rate(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=True, refresh_per_second=4)


def _import_tables() -> None:
    """Import what prints the table while the network computes."""
    for module in ("microseg.cli.tables", "rich.console", "rich.table", "rich.text"):
        importlib.import_module(module)


def print_summary(summary: dict[str, Any]) -> None:
    """Print what a report states, from the content of its `summary.json`."""
    from microseg.cli.tables import TextTable, output_console, phase_label, say

    console = output_console()
    _print_reported(console, summary)
    table = TextTable(
        "Sampling of fields (ASTM E562), without errors of the network",
        ["phase"],
        ["area %", "± 95 % CI", "std", "%RA", "± folds", "n"],
    )
    for name, phase in summary["phases"].items():
        shown = [_percent(phase[key]) for key in ("mean", "ci95", "std")]
        accuracy = phase["relative_accuracy_percent"]
        relative = _NOTHING if accuracy is None else f"{accuracy:.1f}"
        table.add(phase_label(name, phase["color"]), *shown, relative, _percent(phase["fold_std"]), str(phase["n"]))
    table.print(console)
    run = summary["run"]
    if run["runtime"]:
        threads = f", {run['threads']} threads" if run["threads"] and summary["settings"]["device"] == "cpu" else ""
        threads += f" in {run['streams']} streams" if run["streams"] > 1 else ""
        say(console, f"Computed by {run['runtime']} ({run['provider']}){threads}")
    if summary["pixel_size_sources"]:
        from microseg.core.preparation.wording import sources_text

        say(console, f"Pixel size: {plain_name(sources_text(summary['pixel_size_sources']))}")
    if run["profile"]:
        say(console, f"Tuning profile: {plain_name(run['profile'])}")
    for notice in summary["notices"]:
        say(console, f"note: {plain_name(notice)}")
    for line in _field_notices(summary["field_notices"]):
        say(console, line)


def _print_reported(console: Console, summary: dict[str, Any]) -> None:
    """What is reported of each phase, of the whole and of each section, and what stands behind it."""
    from microseg.cli.tables import TextTable, phase_label, say
    from microseg.deploy.measurement.evidence import NOT_JUDGED, NOT_VALIDATED

    fields = summary["fields"]
    title = f"{summary['input']}: {fields['measured']} of {fields['total']} fields measured"
    table = TextTable(title, ["phase"], ["fraction %", "95 % interval", "evidence", "raw %"])
    for name, phase in summary["phases"].items():
        table.add(phase_label(name, phase["color"]), *_cells(phase["reported"]))
    table.print(console)
    by_evidence: dict[str, dict[str, None]] = {}
    for phase in summary["phases"].values():
        reported = phase["reported"]
        by_evidence.setdefault(reported["evidence"], {}).update(dict.fromkeys(reported["reasons"]))
    for evidence, reasons in by_evidence.items() if fields["measured"] else ():
        say(console, f"evidence: {evidence}" + (f": {NOT_VALIDATED}" if evidence == "none" else ""))
        for reason in reasons:
            if reason != NOT_VALIDATED:
                say(console, f"  {plain_name(reason)}")
    if summary["audit"] is not None:
        say(console, f"audit: {plain_name(summary['audit']['fit'])}")
    if fields["measured"]:
        alarm = summary["alarm"]
        say(console, f"alarm: {NOT_JUDGED if alarm is None else plain_name(alarm['text'])}")
    sections = summary["sections"]
    if len(sections) > 1:
        table = TextTable(
            "Sections", ["section", "phase"], ["fraction %", "95 % interval", "evidence", "alarm", "n"], shortens=True
        )
        for section, content in list(sections.items())[:_SECTIONS]:
            for name, phase in content["phases"].items():
                shown = _cells(phase["reported"])[:-1]
                alarm = _NOTHING if content["alarm"] is None else content["alarm"]["level"]
                label = phase_label(name, summary["phases"][name]["color"])
                table.add(section, label, *shown, alarm, str(content["fields"]))
        table.print(console)
        if len(sections) > _SECTIONS:
            say(console, f"{len(sections) - _SECTIONS} sections more: see report.html or summary.json")


def _cells(reported: dict[str, Any]) -> tuple[str, str, str, str]:
    """Fraction, interval, evidence and raw fraction, in per cent."""
    interval = reported["interval"]
    span = _NOTHING if interval is None else f"{100 * interval[0]:.2f} to {100 * interval[1]:.2f}"
    return _percent(reported["fraction"]), span, reported["evidence"], _percent(reported["raw"])


def _field_notices(notices: list[dict[str, Any]]) -> Iterator[str]:
    """A line for each kind and text, with the fields; of a kind with many texts the first few."""
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for notice in notices:
        by_kind.setdefault(notice["kind"], []).append(notice)
    for kind, found in by_kind.items():
        for notice in found[:_TEXTS]:
            more = f" and {notice['count'] - _NAMES} more" if notice["count"] > _NAMES else ""
            names = ", ".join(map(plain_name, notice["fields"][:_NAMES]))
            fields = "1 field" if notice["count"] == 1 else f"{notice['count']} fields"
            yield f"note: {kind}, {fields} ({names}{more}): {plain_name(notice['text'])}"
        if left := found[_TEXTS:]:
            count = sum(notice["count"] for notice in left)
            yield f"note: {kind}: {count} fields more, each with a notice of its own. summary.json and fields.csv list them."


def _percent(fraction: float | None) -> str:
    return _NOTHING if fraction is None else f"{100 * fraction:.2f}"
