"""One offline page with pictures and words: the contact sheet of `suggest`, and the doubtful labels of `check --run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from jinja2 import Template

from microseg.core.pages.template import page_template
from microseg.core.schemas.bag import PhaseInfo


@dataclass(frozen=True)
class Card:
    """One field or region.

    Attributes:
        title: its name.
        lines: what is said of it.
        pictures: caption and address (a data URL) of each picture.
    """

    title: str
    lines: Sequence[str]
    pictures: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Page:
    """What a page says.

    Attributes:
        kind: what kind of page it is.
        title: its title.
        sub: a sentence below the title.
        notices: what the reader should know.
        phases: the phases, for the legend.
        cards: fields or regions in order.
        footer: how they were found.
    """

    kind: str
    title: str
    sub: str
    notices: Sequence[str]
    phases: Sequence[PhaseInfo]
    cards: Sequence[Card]
    footer: str


def page_html(page: Page) -> str:
    """The page as one HTML file without links to the network. Names are escaped."""
    return _template().render(page=page)


@cache
def _template() -> Template:
    return page_template(Path(__file__).with_name("page.html.j2"))
