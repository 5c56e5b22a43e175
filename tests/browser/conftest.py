"""One headless Chromium for all tests of pages. It is offline, and what a page reports as an error fails its test."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.browser import ARGUMENTS, NO_BROWSER, STARTS_MS, find_browser, playwright_and_browser
from tests.deploy.archive.conftest import archive, listed  # noqa: F401
from tests.deploy.audit.conftest import _measured, lot  # noqa: F401

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page, Playwright

# Also on a busy machine.
TIMEOUT_MS = 90_000

Open = Callable[..., "Page"]


@pytest.fixture(scope="package")
def _started() -> Iterator[tuple[Playwright, Browser]]:
    pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'microseg[dev]'")
    if find_browser() is None:
        pytest.skip(NO_BROWSER)
    with playwright_and_browser() as started:
        yield started


@dataclass
class _Windows:
    """Windows of the browser that tests have done with, by their options: a new one costs a second of the processor."""

    browser: Browser
    free: dict[str, list[Page]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def take(self, options: dict[str, Any]) -> Page:
        """A window with these options for a context. Its errors and requests are gathered in `faults`."""
        waiting = self.free.get(repr(options), [])
        if not waiting:
            return watched(self.browser.new_context(offline=True, **options), self.faults)
        page = waiting.pop()
        page.emulate_media(media="null", color_scheme=options.get("color_scheme", "light"))
        return page


@pytest.fixture(scope="package")
def _windows(_started: tuple[Playwright, Browser]) -> _Windows:
    return _Windows(_started[1])


@pytest.fixture
def faults(_windows: _Windows) -> Iterator[list[str]]:
    """What pages report: errors on the console, exceptions, and requests for anything but files. It has to stay empty."""
    _windows.faults.clear()
    yield _windows.faults
    assert _windows.faults == []


@pytest.fixture
def open_page(_windows: _Windows, faults: list[str]) -> Iterator[Open]:
    """Opens a file as a page. Further arguments are Playwright's for its context. Pages of one test share nothing."""
    taken: list[tuple[str, Page]] = []

    def opened(path: Path, **options: Any) -> Page:
        page = _windows.take(options)
        taken.append((repr(options), page))
        page.goto(path.absolute().as_uri())
        return page

    yield opened
    for options, page in taken:
        page.goto("about:blank")
        _windows.free.setdefault(options, []).append(page)


@pytest.fixture
def own_browser(_started: tuple[Playwright, Browser], faults: list[str], tmp_path: Path) -> Iterator[Open]:
    """Opens a file in a browser that keeps its profile; each call ends the browser of the call before."""
    running: list[BrowserContext] = []

    def opened(path: Path) -> Page:
        while running:
            running.pop().close()
        context = _started[0].chromium.launch_persistent_context(
            tmp_path / "profile", executable_path=find_browser(), args=ARGUMENTS, offline=True, timeout=STARTS_MS
        )
        running.append(context)
        page = watched(context, faults)
        page.goto(path.absolute().as_uri())
        return page

    yield opened
    while running:
        running.pop().close()


def watched(context: BrowserContext, faults: list[str]) -> Page:
    """A page of a context whose errors and requests are gathered."""
    context.set_default_timeout(TIMEOUT_MS)
    page = context.new_page()
    page.on("console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on("request", lambda request: None if _is_local(request.url) else faults.append(f"requests {request.url}"))
    return page


def _is_local(url: str) -> bool:
    return url.startswith(("file:", "data:", "blob:", "about:blank"))


def breaches(page: Page) -> str:
    """The rules of WCAG 2 A and AA that a page breaks, in words, by axe-core (MPL-2.0); empty where it keeps all."""
    from axe_playwright_python.sync_playwright import Axe

    tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": tags, "resultTypes": ["violations"], "preload": False})
    return found.generate_report() if found.violations_count else ""


def pages_of(pdf: bytes) -> int:
    """The number of pages of a PDF that Chromium wrote."""
    return len(re.findall(rb"/Type\s*/Page\b", pdf))
