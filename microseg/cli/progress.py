"""Progress bars of training and of building a plan."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from microseg.core.plain_text import plain, plain_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID


@contextmanager
def training_progress(
    title: str = "{task.fields[kind]} {task.fields[fold]}",
) -> Iterator[Callable[..., Callable[[int, int, str], None]]]:
    """Progress bars with rate and time left, one for each fold; nothing where standard error is not a terminal.

    Yields:
        A function of the number of a fold, and of what it is called (`fold` by default). It returns what is called after every
        step with the steps done, the steps in all and a text.
    """
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

    def on_fold(fold: int, kind: str = "fold") -> Callable[[int, int, str], None]:
        task = bars.add_task("", total=None, fold=fold, kind=kind, rate="")

        def report(step: int, steps: int, text: str) -> None:
            speed = next((t.speed for t in bars.tasks if t.id == task), None)
            rate = f"{speed:.2f} steps/s" if speed else ""
            bars.update(task, completed=step, total=steps, description=text, rate=rate)

        return report

    with bars:
        yield on_fold


@contextmanager
def status(text: str) -> Iterator[Callable[[str], None]]:
    """A line on standard error that says what is under way, and what changes it; nothing where that is no terminal."""
    from rich.console import Console
    from rich.text import Text

    # As objects: a string would be read for markup, and names of files hold brackets.
    with Console(stderr=True).status(Text(plain_name(text))) as shown:
        yield lambda change: shown.update(Text(plain_name(change)))


def is_first_rank() -> bool:
    """Whether this process prints: of the processes that `torchrun` starts, only the first one does."""
    return os.environ.get("RANK", "0") == "0"


class ExportBars:
    """One bar for each phase of an export that is under way; the bar of a phase of unknown length pulses."""

    def __init__(self, bars: Progress, console: Console) -> None:
        self._bars = bars
        self._console = console
        self._tasks: dict[str, TaskID] = {}

    def begin(self, phase: str, steps: int = 0) -> None:
        """Show a phase. One of unknown length replaces all others, and is a line of its own where there are no bars."""
        if not steps:
            self.clear()
            if not self._console.is_terminal:
                self._console.print(plain(phase), soft_wrap=True, highlight=False, markup=False)
        self._tasks[phase] = self._bars.add_task(phase, total=steps or None)

    def step(self, phase: str) -> None:
        """Advance it."""
        if phase in self._tasks:
            self._bars.advance(self._tasks[phase])

    def end(self, phase: str) -> None:
        """Take it away."""
        if phase in self._tasks:
            self._bars.remove_task(self._tasks.pop(phase))

    def notice(self, text: str) -> None:
        """Print a line that stays, also where there are no bars."""
        self._console.print(f"note: {plain(text)}", soft_wrap=True, highlight=False, markup=False)

    def clear(self) -> None:
        """Take all away."""
        for phase in list(self._tasks):
            self.end(phase)


@contextmanager
def export_progress() -> Iterator[ExportBars]:
    """Bars that follow an export; where the output is no terminal, a line for each phase of unknown length."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        yield ExportBars(bars, console)
