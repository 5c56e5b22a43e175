"""`microseg tune ENGINE`: the fastest way to run an engine on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.cli.measure.segment import DeviceOption, RuntimeOption

if TYPE_CHECKING:
    from microseg.deploy.tuning.bench import Trial


def tune(
    engine: Annotated[Path, typer.Argument(help="An engine.")],
    seconds: Annotated[float, typer.Option(min=1, help="Time to spend. The default setting is always measured.")] = 120,
    field_px: Annotated[
        tuple[int, int], typer.Option(min=64, metavar="WIDTH HEIGHT", help="A typical field, as the network sees it.")
    ] = (1024, 768),
    memory_mb: Annotated[int | None, typer.Option(min=1, help="Memory to stay within, as for `segment`.")] = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
) -> None:
    """Measure runtime, threads, streams, tile size and batch on this machine; `segment` picks the best up by itself."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from microseg.deploy.tuning.tune import tune as run

    with Console(stderr=True).status("measuring the default") as status:
        found = run(
            engine,
            seconds=seconds,
            field_px=field_px,
            memory_mb=memory_mb,
            runtime=runtime.value if runtime else None,
            device=device.value if device else None,
            on_trial=lambda trial: status.update(f"{_named(trial)}: {_speed(trial)}"),
        )
    table = Table(title=f"{escape(engine.name)}: fields of {field_px[0]} x {field_px[1]} px", title_justify="left")
    for name in ("runtime", "device", "threads", "streams", "tile", "batch"):
        table.add_column(name)
    table.add_column("megapixels/s", justify="right", overflow="fold")
    table.add_column("")
    best = found.profile

    def is_taken(trial: Trial) -> bool:
        settings, choice = trial.settings, trial.settings.choice
        return trial.megapixels_per_second is not None and (
            (choice.runtime, choice.device, choice.threads, choice.streams, settings.max_tile_pixels, settings.batch)
            == (best.runtime, best.device, best.threads, best.streams, best.max_tile_pixels, best.batch)
        )

    for trial in found.trials:
        settings = trial.settings
        choice = settings.choice
        table.add_row(
            choice.runtime,
            choice.device,
            str(choice.threads or "-"),
            str(choice.streams),
            f"{trial.tiles} x {trial.tile_px[0]} x {trial.tile_px[1]}",
            str(settings.batch),
            escape(_speed(trial)),
            "taken" if is_taken(trial) else "",
            style="bold" if is_taken(trial) else "",
        )
    console = Console()
    console.print(table)
    if not found.complete:
        console.print(f"Not everything was measured in {seconds:g} s. More: --seconds.", highlight=False)
    default = found.trials[0].megapixels_per_second
    if default:
        gain = f"{best.megapixels_per_second / default:.2f} times as fast as the default"
        told = "the default, which is the fastest" if is_taken(found.trials[0]) else gain
        console.print(f"What `segment` takes from now on: {told}.", highlight=False)
    console.print(f"Profile: {escape(str(found.path))}", highlight=False, soft_wrap=True)


def _named(trial: Trial) -> str:
    choice = trial.settings.choice
    streams = f", {choice.streams} streams" if choice.streams > 1 else ""
    return f"{choice.runtime} on {choice.device}, {choice.threads or 'default'} threads{streams}, batch {trial.settings.batch}"


def _speed(trial: Trial) -> str:
    return trial.note if trial.megapixels_per_second is None else f"{trial.megapixels_per_second:.2f}"
