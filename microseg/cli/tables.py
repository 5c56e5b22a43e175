"""Tables that fit a terminal, and that a log file holds with one line for each row.

Where a terminal is too narrow for a table, its content follows as lines `head: cell`. No cell is cut or broken.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from microseg.cli.streams import columns
from microseg.core.plain_text import plain, plain_name

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    Cell: TypeAlias = str | Text

# A log file has no width; nothing that a command prints is wider.
_LOG_COLUMNS = 10_000
_LEAST_NAME, _SHORTEST_NAME = 24, 12
# What a row needs beside its cells: an edge, and padding and an edge for each column.
_EDGE, _BESIDE_CELL = 1, 3
# Columns for the values of `print_pairs`; with fewer, a value takes lines of its own.
_LEAST_VALUE = 28


def output_console() -> Console:
    """Standard output: as wide as COLUMNS or the terminal says, or without a limit where it is a file or a pipe."""
    from rich.console import Console

    # With both sides given, the library does not take 80 columns for a terminal of few abilities.
    return Console(width=columns(sys.stdout) or _LOG_COLUMNS, height=25, emoji=False)


def say(console: Console, text: str) -> None:
    """Print a text as it is: neither wrapped nor coloured, whatever it contains."""
    console.print(plain(text), soft_wrap=True, highlight=False, markup=False, emoji=False)


def shortened(text: str, columns: int) -> str:
    """The text in at most so many columns; its middle is left out, because file names differ at their ends."""
    from rich.cells import cell_len

    if cell_len(text) <= columns:
        return text
    end = max(1, 2 * (columns - 1) // 3)
    begin = max(0, columns - 1 - end)
    # Wide characters take two columns.
    head = next(text[:count] for count in range(begin, -1, -1) if cell_len(text[:count]) <= begin)
    tail = next(text[-count:] for count in range(end, 0, -1) if cell_len(text[-count:]) <= end or count == 1)
    return f"{head}…{tail}"


def phase_label(name: str, color: str) -> Text:
    """The name of a phase after a patch of its colour (#rrggbb)."""
    from rich.text import Text

    return Text.assemble(("██", color), " ", plain_name(name))


def score_cell(value: float | None) -> str:
    """A score from 0 to 1; `-` where it is undefined."""
    return "-" if value is None else f"{value:.3f}"


def percent_cell(share: float | None, digits: int = 1) -> str:
    """A share from 0 to 1 in percent, without the sign; `-` where it is undefined."""
    return "-" if share is None else f"{100 * share:.{digits}f}"


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        cells: one for each column; a text from outside is shown as it is.
        style: of the whole row, in the library's words.
        ends_section: whether a line follows.
    """

    cells: Sequence[Cell]
    style: str = ""
    ends_section: bool = False


@dataclass
class TextTable:
    """A table on the terminal.

    Attributes:
        title: the line above.
        left: heads of the first columns, which are aligned to the left.
        right: heads of the other columns, which are aligned to the right.
        rows: the rows.
        shortens: whether the first column holds names that may be shortened on a terminal, to keep a row on its line.
    """

    title: str
    left: Sequence[str]
    right: Sequence[str]
    rows: list[Row] = field(default_factory=list)
    shortens: bool = False

    def add(self, *cells: Cell, style: str = "", ends_section: bool = False) -> None:
        """Append a row."""
        self.rows.append(Row(cells, style, ends_section))

    def print(self, console: Console) -> None:
        """Print the table, or its content line by line where the console is too narrow."""
        from rich.text import Text

        console.print(Text(plain_name(self.title), "bold"), soft_wrap=True)
        rows = [[_text(cell) for cell in row.cells] for row in self.rows]
        widths = self._widths(console, rows)
        if widths is None:
            self._print_lines(console, rows)
        else:
            console.print(self._table(rows, widths))

    def _widths(self, console: Console, rows: list[list[Text]]) -> list[int] | None:
        """Columns of the terminal for each column of the table; None where they are too few."""
        least, most = [], []
        for column, head in enumerate((*self.left, *self.right)):
            cells = [row[column].plain for row in rows]
            # Figures stay on a line; heads and texts are broken between words.
            least.append(_width([*head.split(), *(cells if column >= len(self.left) else " ".join(cells).split())]))
            most.append(_width([*head.splitlines(), *cells]))
        room = console.width - _EDGE - _BESIDE_CELL * len(least)
        if self.shortens:
            most[0] = least[0] = self._name_width(console, room, (sum(least[1:]), sum(most[1:])), most[0])
        spare = room - sum(least)
        if spare < 0:
            return None
        wanted = [more - less for less, more in zip(least, most, strict=True)]
        if sum(wanted) <= spare:
            return most
        shares = [spare * each // sum(wanted) for each in wanted]
        return [less + share for less, share in zip(least, shares, strict=True)]

    def _name_width(self, console: Console, room: int, others: tuple[int, int], longest: int) -> int:
        """Columns of the first column, whose names may be shortened; `others` need so many at least and at most."""
        if not console.is_terminal:
            return longest
        left = room - others[1]
        if left < min(longest, _LEAST_NAME):
            left = room - others[0]  # heads of columns then take several lines
        return min(longest, max(left, _SHORTEST_NAME))

    def _table(self, rows: list[list[Text]], widths: list[int]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table()
        for place, head in enumerate((*self.left, *self.right)):
            is_left = place < len(self.left)
            table.add_column(Text(head), justify="left" if is_left else "right", width=widths[place], overflow="fold")
        for row, cells in zip(self.rows, rows, strict=True):
            if self.shortens:
                cells = [Text(shortened(cells[0].plain, widths[0])), *cells[1:]]
            table.add_row(*cells, style=row.style, end_section=row.ends_section)
        return table

    def _print_lines(self, console: Console, rows: list[list[Text]]) -> None:
        from rich.text import Text

        for row, cells in zip(self.rows, rows, strict=True):
            indent = ""
            for head, cell in zip((*self.left, *self.right), cells, strict=True):
                if cell.plain:
                    lead = indent + (f"{' '.join(head.split())}: " if head else "")
                    console.print(Text.assemble(lead, cell, style=row.style), soft_wrap=True)
                    indent = "  "


def print_pairs(console: Console, pairs: Mapping[str, Cell]) -> None:
    """Print names and values: in two columns, or line by line where the console is too narrow."""
    from rich.table import Table
    from rich.text import Text

    longest = max(map(len, pairs), default=0)
    if console.width < longest + 2 + _LEAST_VALUE:
        for name, value in pairs.items():
            console.print(Text.assemble(f"{name}: ", _text(value)), soft_wrap=True)
        return
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(name, _text(value))
    console.print(table)


def _width(texts: Sequence[str]) -> int:
    """Columns of the terminal that the widest text takes."""
    from rich.cells import cell_len

    return max(map(cell_len, texts), default=0)


def _text(cell: Cell) -> Text:
    from rich.text import Text

    return Text(plain_name(cell)) if isinstance(cell, str) else cell
