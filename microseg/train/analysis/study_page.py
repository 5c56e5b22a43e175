"""`study.html`: the table of a study as a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Template

from microseg.core.pages.template import page_template


@dataclass(frozen=True)
class DomainPart:
    """What a row says of one domain.

    Attributes:
        entries: text by column.
        miou: mean IoU of the folds, 0-1; None where it is unknown.
        std: its standard deviation over the folds, 0-1; None for one fold.
    """

    entries: Mapping[str, str]
    miou: float | None
    std: float | None


@dataclass(frozen=True)
class PageRow:
    """A row.

    Attributes:
        name: its name.
        title: the text beside the name.
        parts: what it says of each domain, by its name; empty for a row that is not finished.
        failed: why it failed; None where it did not.
        is_baseline: whether it is no row of the study but what all rows are compared with.
    """

    name: str
    title: str
    parts: Mapping[str, DomainPart]
    failed: str | None = None
    is_baseline: bool = False


def study_html(title: str, domains: int, columns: Sequence[str], rows: Sequence[PageRow]) -> str:
    """The page as one HTML file that links to the tables beside it and loads nothing from the network. Names are escaped.

    Args:
        title: name of the study.
        domains: number of its domains.
        columns: the columns; the first is the mIoU.
        rows: the rows in the order of the study.
    """
    own = [row for row in rows if not row.is_baseline]
    finished = sum(bool(row.parts) for row in own)
    return _template().render(
        title=title, domains=domains, columns=columns, rows=rows, total=len(own), finished=finished
    )


@cache
def _template() -> Template:
    return page_template(Path(__file__).with_name("study.html.j2"), {"bar": _bar})


def _bar(share: float | None) -> str:
    """A share of 0 to 1 as a length in per cent."""
    return f"{100 * min(1.0, max(0.0, share or 0.0)):.2f}%"
