"""Tables that fit a terminal, and that a log file holds with one line for each row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

# A log file has no width; nothing that a command prints is wider.
_LOG_COLUMNS = 10_000
_LEAST_NAME = 24


def output_console() -> Console:
    """Standard output: as wide as the terminal, or without a limit where it is a file or a pipe."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=_LOG_COLUMNS)


def shortened(text: str, columns: int) -> str:
    """The text in at most so many columns; its middle is left out, because file names differ at their ends."""
    if len(text) <= columns:
        return text
    end = max(1, 2 * (columns - 1) // 3)
    return f"{text[: max(0, columns - 1 - end)]}…{text[-end:]}"


def fitting_table(console: Console, names: Sequence[str], table_of: Callable[[Sequence[str]], Table]) -> Table:
    """The table of rows with these names, which are shortened where the console is too narrow for them.

    Args:
        console: where the table goes.
        names: one for each row.
        table_of: builds the table from the names to show.
    """
    from rich.measure import Measurement

    longest = max((len(name) for name in names), default=0)
    others = Measurement.get(console, console.options.update(max_width=_LOG_COLUMNS), table_of([""] * len(names)))
    room = console.width - others.maximum
    if room < min(longest, _LEAST_NAME):
        room = console.width - others.minimum  # heads of columns then take several lines
    return table_of([shortened(name, max(room, _LEAST_NAME // 2)) for name in names])
