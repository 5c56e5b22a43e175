"""`python -m benchmarks.pages`: how fast pages open and scroll in Chromium, how large they are, and pictures of them.

Reports of 5 and of 10,000 fields, validated and not; the point grid of an audit of eight fields; a contact sheet; a study.
Their figures are drawn, not measured. With --pictures every page is shown at 1280 px, in the dark, at 390 px and on paper.
"""

from __future__ import annotations

import argparse
import base64
import re
import secrets
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.browser import playwright_and_browser
from benchmarks.machine import machine, versions
from benchmarks.page_reports import SIDE_PX, Wanted, findings_of, write_page
from microseg.core.labelling.page import Card, Page, page_html
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.system.files import write_json
from microseg.deploy.audit.files import Draw, DrawnField
from microseg.deploy.audit.grid_page import Counted, grid_points, page_field
from microseg.deploy.audit.grid_page import write_page as write_grid
from microseg.train.analysis.study_page import DomainPart, PageRow, study_html

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

FIELDS = (5, 10_000)
SCREENS: dict[str, dict[str, Any]] = {
    "1280": {"viewport": {"width": 1280, "height": 900}},
    "1280-dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "390": {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True},
}
# A4 at 96 px to the inch.
PAPER = {"width": 794, "height": 1123}
# From the click to the first picture of the finished page.
OPENED = (
    """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(performance.now()))))"""
)
# Scrolls a table of fields to its end, a screen a frame, and tells how long each frame took and which tasks blocked the page.
SCROLLED = """async ([screens]) => {
  const grid = document.getElementById("grid"), frames = [], tasks = [];
  const watch = new PerformanceObserver(list => list.getEntries().forEach(each => tasks.push(each.duration)));
  watch.observe({ entryTypes: ["longtask"] });
  let before = performance.now();
  for (let at = 1; at <= screens; at++) {
    grid.scrollTop = (grid.scrollHeight - grid.clientHeight) * at / screens;
    await new Promise(requestAnimationFrame);
    const now = performance.now();
    frames.push(now - before);
    before = now;
  }
  await new Promise(done => setTimeout(done, 100));
  watch.disconnect();
  return { frames, tasks };
}"""
# How long typing into the search and sorting by a column block the page.
CHOSEN = """() => {
  const search = document.getElementById("search"), heads = [...document.querySelectorAll("#grid thead button")];
  const timed = act => { const from = performance.now(); act(); return performance.now() - from; };
  const typed = text => timed(() => { search.value = text; search.dispatchEvent(new Event("input")); });
  const found = { search_ms: typed("field 7"), sort_ms: Math.max(...heads.map(head => timed(() => head.click()))) };
  typed("");
  return found;
}"""


def main() -> None:
    """Show the pages, print a table, and write JSON with --json and pictures with --pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--pictures", type=Path, help="write pictures of the pages into this folder")
    parser.add_argument("--fields", type=int, nargs="+", default=FIELDS, help="numbers of fields of the reports")
    parser.add_argument("--turns", type=int, default=5, help="times that each page is opened; the median counts")
    parser.add_argument("--seed", type=int, help="of the drawn figures; a new one without")
    options = parser.parse_args()
    seed = secrets.randbits(32) if options.seed is None else options.seed
    with tempfile.TemporaryDirectory() as work, playwright_and_browser() as (_, browser):
        pages = made_pages(Path(work), options.fields, seed)
        figures = {name: measured(browser, page, options.turns) for name, page in pages.items()}
        if options.pictures:
            options.pictures.mkdir(parents=True, exist_ok=True)
            for name, page in pages.items():
                show(browser, page, options.pictures / name)
        chromium = browser.version
    found = {"seed": seed, "turns": options.turns, "pages": figures, "chromium": chromium, "machine": machine(),
             "versions": versions("microseg", "playwright")}  # fmt: skip
    Console(width=100).print(table(figures))
    print(f"seed {seed}")
    if options.json:
        write_json(options.json, found)


def made_pages(work: Path, fields: Sequence[int], seed: int) -> dict[str, Path]:
    """The pages by name.

    Args:
        work: an empty folder.
        fields: numbers of fields of the reports.
        seed: draws the figures.
    """
    from microseg.synthetic.field import synthesise_field

    field = synthesise_field("s", seed, size_px=SIDE_PX)
    pages = {}
    for number in fields:
        sections = max(1, number // 500)
        for evidence in ("validated", "none"):
            wanted = Wanted(number, "validated" if evidence == "validated" else "none", sections)
            name = f"report-{number}-{'validated' if evidence == 'validated' else 'not-validated'}"
            pages[name] = write_page(work / name, findings_of(wanted, seed), (field.image, field.labels), 20)
    pages["audit"] = grid_page(work / "audit.html", seed)
    pages["suggest"] = contact_sheet(work / "suggest.html")
    pages["study"] = study(work / "study.html", seed)
    return pages


def grid_page(path: Path, seed: int, fields: int = 8) -> Path:
    """The point grid of eight synthetic fields."""
    from microseg.synthetic.field import synthesise_field

    rng = np.random.default_rng(seed)
    drawn, counted = [], []
    for number in range(fields):
        image = synthesise_field("s", number, size_px=(800, 600)).image
        points = grid_points(np.ones(image.shape, np.bool_), 100, rng)
        drawn.append(
            DrawnField(name=f"field-{number:02d}.tif", sha256=f"{number:064x}", section="", points=len(points))
        )
        counted.append(Counted(drawn[-1], *page_field(image, points)))
    draw = Draw(audit="0" * 16, seed=seed, created="2026-01-01T00:00:00Z", state_sha256="0" * 64, sections={"": fields},
                fields=drawn)  # fmt: skip
    write_grid(path, draw, counted, phase_infos(), "lot 12")
    return path


def contact_sheet(path: Path, title: str = "lot 12", cards: int = 6) -> Path:
    """A contact sheet as `suggest` writes it."""
    from microseg.core.pictures.overlay import Overlay, thumbnail
    from microseg.synthetic.field import synthesise_field

    made = []
    for number in range(cards):
        field = synthesise_field("s", number, size_px=(480, 360))
        height, width = field.image.shape
        overlay = Overlay(height, width, [phase.color for phase in phase_infos()])
        overlay.add(field.image, field.labels)
        address = f"data:image/jpeg;base64,{base64.b64encode(thumbnail(overlay.finish())).decode('ascii')}"
        line = "Its content is rare among the labelled fields."
        made.append(Card(f"{title}/field-{number:02d}.tif", [line], [("What the engine finds", address)]))
    page = Page("Fields to label", title, f"{cards} of 60 fields", [], phase_infos(), made, "microseg 0.1.0")
    path.write_text(page_html(page), encoding="utf-8")
    return path


def study(path: Path, seed: int) -> Path:
    """The page of a study of four rows and three domains."""
    rng = np.random.default_rng(seed)
    rows = []
    for name in ("U-Net", "DeepLabv2", "pre-trained", "adapted"):
        parts = {}
        for domain in ("S", "T1", "T2"):
            miou = float(rng.uniform(0.6, 0.95))
            parts[domain] = DomainPart(
                {"mIoU": f"{100 * miou:.1f} ± 2.0", "RDT": f"{rng.normal(0, 5):+.1f}"}, miou, 0.02
            )
        rows.append(PageRow(name, "", parts))
    path.write_text(study_html("encoders", 3, ["mIoU", "RDT"], rows), encoding="utf-8")
    return path


def phase_infos() -> list[PhaseInfo]:
    """The two phases of the synthetic domains."""
    return [PhaseInfo(name="ferrite", color="#0072b2"), PhaseInfo(name="lath-bainite", color="#e69f00")]


def measured(browser: Browser, page: Path, turns: int) -> dict[str, Any]:
    """The figures of a page.

    Args:
        browser: the browser.
        page: the page.
        turns: times that it is opened, each in a context of its own.
    """
    opened, processor = [], []
    for turn in range(turns):
        context = browser.new_context(offline=True, **SCREENS["1280"])
        tab = context.new_page()
        busy = Busy(tab)
        tab.goto(page.absolute().as_uri())
        opened.append(float(tab.evaluate(OPENED)))
        processor.append(busy.seconds())
        if turn == turns - 1:
            found = _figures(tab, busy)
        context.close()
    return {"bytes": page.stat().st_size, "opens_ms": median(opened), "opens_ms_turns": opened,
            "opens_processor_ms": 1000 * median(processor), **found}  # fmt: skip


class Busy:
    """The time that the processor spends on a page's own thread. Other programs do not change it."""

    def __init__(self, tab: Tab) -> None:
        """Args:
        tab: the page, before it shows anything.
        """
        self._session = tab.context.new_cdp_session(tab)
        self._session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def seconds(self) -> float:
        """Since the page was opened."""
        metrics = self._session.send("Performance.getMetrics")["metrics"]
        return next(float(each["value"]) for each in metrics if each["name"] == "TaskDuration")


def _figures(tab: Tab, busy: Busy) -> dict[str, Any]:
    found: dict[str, Any] = {
        "elements": tab.evaluate("document.querySelectorAll('*').length"),
        "pages_on_paper": pages_of(tab.pdf(prefer_css_page_size=True)),
    }
    if tab.locator("#grid tbody").count():
        found |= tab.evaluate(CHOSEN)
        screens = int(tab.evaluate("Math.min(300, document.getElementById('grid').scrollHeight / 400)"))
        before, frames = busy.seconds(), max(1, screens)
        scrolled = tab.evaluate(SCROLLED, [frames])
        found["frame_processor_ms"] = 1000 * (busy.seconds() - before) / frames
        found["frame_ms_median"] = median(scrolled["frames"])
        found["frame_ms_p95"] = float(np.quantile(scrolled["frames"], 0.95))
        found["long_tasks_while_scrolling"] = len(scrolled["tasks"])
        found["elements_after_scrolling"] = tab.evaluate("document.querySelectorAll('*').length")
    return found


def pages_of(pdf: bytes) -> int:
    """The number of pages of a PDF that Chromium wrote."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))


def show(browser: Browser, page: Path, picture: Path) -> None:
    """Pictures of a whole page, NAME-SCREEN.png, of a field of it at full size, NAME-SCREEN-field.png, and of what is printed,
    NAME-paper.png and NAME.pdf.

    Args:
        browser: the browser.
        page: the page.
        picture: where the pictures go, without what follows the name.
    """
    for screen, options in SCREENS.items():
        context = browser.new_context(offline=True, **options)
        tab = context.new_page()
        tab.goto(page.absolute().as_uri())
        tab.wait_for_timeout(300)
        tab.screenshot(path=picture.with_name(f"{picture.name}-{screen}.png"), full_page=True)
        if screen == "1280":
            tab.pdf(path=picture.with_name(f"{picture.name}.pdf"), prefer_css_page_size=True, print_background=True)
            tab.set_viewport_size({"width": PAPER["width"], "height": PAPER["height"]})
            tab.emulate_media(media="print")
            tab.screenshot(path=picture.with_name(f"{picture.name}-paper.png"))
        elif tab.locator("#grid .open").count():
            tab.locator("#grid .open").nth(1).click()
            tab.wait_for_timeout(300)
            tab.screenshot(path=picture.with_name(f"{picture.name}-{screen}-field.png"))
        context.close()


def table(figures: dict[str, dict[str, Any]]) -> Table:
    """One row for each page. What follows "processor" does not depend on other programs."""
    shown = Table(title="pages in Chromium", title_justify="left")
    shown.add_column("page", no_wrap=True)
    for column in ("MB", "opens\nms", "pro-\ncessor", "paper", "frame\nms", "pro-\ncessor", "sort\nms"):
        shown.add_column(column, justify="right")
    keys = ("opens_ms", "opens_processor_ms", "pages_on_paper", "frame_ms_median", "frame_processor_ms", "sort_ms")
    for name, found in figures.items():
        cells = [f"{found[key]:.0f}" if key in found else "" for key in keys]
        shown.add_row(name, f"{found['bytes'] / 1e6:.2f}", *cells)
    return shown


if __name__ == "__main__":
    main()
