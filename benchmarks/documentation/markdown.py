"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table. Bars and line breaks in cells are taken care of."""
    lines = [f"| {' | '.join(header)} |", f"| {' | '.join('---' for _ in header)} |"]
    lines += [f"| {' | '.join(_cell(value) for value in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(value: object) -> str:
    return " ".join(str(value).replace("|", "\\|").split())


def rows_of(shown: Table) -> list[list[str]]:
    """The cells of a table that a benchmark prints, row by row, without markup."""
    columns: list[list[Any]] = [list(column.cells) for column in shown.columns]
    return [[Text.from_markup(str(cell)).plain for cell in row] for row in zip(*columns, strict=True)]


def interval(pair: Sequence[float] | None) -> str:
    """An interval of scores, 0-1; empty for None."""
    return "" if pair is None else f"[{pair[0]:.3f}, {pair[1]:.3f}]"
