"""Progress bars of training."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def training_progress(
    title: str = "fold {task.fields[fold]}",
) -> Iterator[Callable[[int], Callable[[int, int, str], None]]]:
    """Progress bars with rate and time left, one for each fold; nothing where the output is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    bars = Progress(
        TextColumn(title),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        console=console,
        disable=not (console.is_terminal and is_first_rank()),
    )

    def on_fold(fold: int) -> Callable[[int, int, str], None]:
        task = bars.add_task("", total=None, fold=fold, rate="")

        def report(step: int, steps: int, text: str) -> None:
            speed = next((t.speed for t in bars.tasks if t.id == task), None)
            rate = f"{speed:.2f} steps/s" if speed else ""
            bars.update(task, completed=step, total=steps, description=text, rate=rate)

        return report

    with bars:
        yield on_fold


def is_first_rank() -> bool:
    """Of the processes that `torchrun` started one speaks."""
    return os.environ.get("RANK", "0") == "0"
