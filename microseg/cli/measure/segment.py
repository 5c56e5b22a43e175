"""`microseg segment INPUT --engine ENGINE`: phase fractions of micrographs, and a report."""

from __future__ import annotations

import importlib
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microseg.cli.streams import plain_name

if TYPE_CHECKING:
    from rich.progress import Progress

    from microseg.deploy.segment import SegmentResult
    from microseg.deploy.segment_options import SegmentOptions

_NOTHING = "\N{EN DASH}"


class DeviceName(StrEnum):
    """Devices that compute; `tensorrt` is ONNX Runtime's TensorRT execution provider."""

    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


class RuntimeName(StrEnum):
    """Libraries that run an engine."""

    onnxruntime = "onnxruntime"
    openvino = "openvino"
    tensorrt = "tensorrt"


RuntimeOption = Annotated[
    RuntimeName | None,
    typer.Option("--runtime", help="Library that runs the engine. Default: by file, precision and hardware."),
]
DeviceOption = Annotated[
    DeviceName | None,
    typer.Option(
        "--device", help="Device that computes. One that does not load is an error. Default: a usable GPU, else cpu."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads. Default: one for each physical core that the process may use."),
]


def segment(
    input_path: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="A micrograph, a folder of micrographs with its sub-folders, a domain folder or its YAML file.",
        ),
    ],
    engine: Annotated[Path, typer.Option(help="Engine file that `microseg export` wrote.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the report. Default: INPUT-report beside the input.")
    ] = None,
    domain: Annotated[
        str | None,
        typer.Option("--as", help="Domain of the engine to measure as. Default: the engine's default domain."),
    ] = None,
    pixel_size_um: Annotated[
        float | None,
        typer.Option(min=1e-6, max=1e6, help="Native pixel size in µm. It wins over domain.yaml and the files."),
    ] = None,
    invert: Annotated[
        bool | None,
        typer.Option(
            "--invert/--no-invert", help="Invert grey values (bright field) or not. Default: as the domain says."
        ),
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, help="Tiles under way at once. Default: 1 or 2 on a CPU, 8 on a GPU.")
    ] = None,
    threads: ThreadsOption = None,
    memory_mb: Annotated[
        int | None,
        typer.Option(min=1, help="Memory to stay within, in MB. Default: 1900, or more where the engine needs it."),
    ] = None,
    device: DeviceOption = None,
    runtime: RuntimeOption = None,
    use_profile: Annotated[
        bool,
        typer.Option(
            "--profile/--no-profile", help="Use the profile of `microseg tune` for this machine, or ignore it."
        ),
    ] = True,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the summary to this file.")] = None,
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
            batch=batch,
            threads=threads,
            memory_mb=memory_mb,
            device=device.value if device else None,
            runtime=runtime.value if runtime else None,
            use_profile=use_profile,
        )
    )
    _print(result.summary)
    typer.echo(f"Report: {plain_name(str(result.report / 'report.html'))}")
    if json_path is not None:
        from microseg.core.system.files import write_json, writing

        with writing(json_path):
            write_json(json_path, result.summary)
    for failed in result.summary["failed"]:
        typer.echo(f"failed: {plain_name(failed['reason'])}", err=True)
    if result.summary["failed"]:
        raise typer.Exit(3)


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
    for module in ("rich.console", "rich.table", "rich.text"):
        importlib.import_module(module)


def _print(summary: dict[str, Any]) -> None:
    from microseg.cli.tables import TextTable, output_console, phase_label, say

    fields = summary["fields"]
    title = f"{summary['input']}: {fields['measured']} of {fields['total']} fields measured"
    table = TextTable(title, ["phase"], ["area %", "± 95 % CI", "std", "%RA", "± folds", "n"])
    for name, phase in summary["phases"].items():
        shown = [_percent(phase[key]) for key in ("mean", "ci95", "std")]
        accuracy = phase["relative_accuracy_percent"]
        relative = _NOTHING if accuracy is None else f"{accuracy:.1f}"
        table.add(phase_label(name, phase["color"]), *shown, relative, _percent(phase["fold_std"]), str(phase["n"]))
    console = output_console()
    table.print(console)
    run = summary["run"]
    if run["runtime"]:
        threads = f", {run['threads']} threads" if run["threads"] and summary["settings"]["device"] == "cpu" else ""
        threads += f" in {run['streams']} streams" if run["streams"] > 1 else ""
        say(console, f"Computed by {run['runtime']} ({run['provider']}){threads}")
    if run["profile"]:
        say(console, f"Tuning profile: {plain_name(run['profile'])}")
    for notice in summary["notices"]:
        say(console, f"note: {plain_name(notice)}")


def _percent(fraction: float | None) -> str:
    return _NOTHING if fraction is None else f"{100 * fraction:.2f}"
