"""`microseg tune ENGINE`: the fastest way to run an engine on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.cli.measure.options import DeviceOption, RuntimeOption

if TYPE_CHECKING:
    from microseg.deploy.tuning.bench import Trial
    from microseg.deploy.tuning.tune import TuneResult


def tune(
    engine: Annotated[Path, typer.Argument(help="An engine.")],
    seconds: Annotated[
        float, typer.Option(min=1, help="Time to spend, in seconds. The default configuration is always measured.")
    ] = 120,
    field_px: Annotated[
        tuple[int, int],
        typer.Option(min=64, metavar="WIDTH HEIGHT", help="Size of a typical field on the network's grid."),
    ] = (1024, 768),
    memory_mb: Annotated[
        int | None, typer.Option(min=1, help="Memory to stay within, in MB, as for `segment`.")
    ] = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
) -> None:
    """Measure runtimes, threads, streams, tile sizes and batches on this machine. `segment` then uses the fastest."""
    from microseg.cli.progress import status
    from microseg.deploy.tuning.tune import tune as run

    with status("measuring the default") as show:
        found = run(
            engine,
            seconds=seconds,
            field_px=field_px,
            memory_mb=memory_mb,
            runtime=runtime.value if runtime else None,
            device=device.value if device else None,
            on_trial=lambda trial: show(f"{_named(trial)}: {_speed(trial)}"),
        )
    _print(found, f"{engine.name}: fields of {field_px[0]} x {field_px[1]} px", seconds)


def _print(found: TuneResult, title: str, seconds: float) -> None:
    from microseg.cli.tables import TextTable, output_console, say

    left = ["runtime", "device", "threads", "streams", "tile", "batch"]
    table = TextTable(title, left, ["megapixels/s", ""])
    for trial in found.trials:
        config = trial.candidate.runtime_config
        is_best = trial is found.best
        cells = [
            config.runtime,
            config.device,
            str(config.threads or "-"),
            str(config.streams),
            f"{trial.tiles} x {trial.tile_px[0]} x {trial.tile_px[1]}",
            str(trial.candidate.batch),
            _speed(trial),
            "taken" if is_best else "",
        ]
        table.add(*cells, style="bold" if is_best else "")
    console = output_console()
    table.print(console)
    if not found.complete:
        say(console, f"{seconds:g} s are not enough to measure every configuration. Remedy: a larger --seconds.")
    default, best = found.trials[0].megapixels_per_second, found.best.megapixels_per_second
    if default and best:
        is_default = found.best is found.trials[0]
        gain = (
            "the default configuration, the fastest"
            if is_default
            else f"one {best / default:.2f} times as fast as the default"
        )
        say(console, f"`segment` uses from now on: {gain}.")
    say(console, f"Profile: {found.path}")


def _named(trial: Trial) -> str:
    config = trial.candidate.runtime_config
    streams = f", {config.streams} streams" if config.streams > 1 else ""
    threads = f"{config.threads or 'default'} threads{streams}"
    return f"{config.runtime} on {config.device}, {threads}, batch {trial.candidate.batch}"


def _speed(trial: Trial) -> str:
    return trial.note if trial.megapixels_per_second is None else f"{trial.megapixels_per_second:.2f}"
