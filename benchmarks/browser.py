"""A real browser that shows the pages: Chromium of this machine, driven by Playwright. Nothing is downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NO_BROWSER = "there is no Chromium. Remedy: install it (on Debian `apt install chromium`)"
# Also on a busy machine.
STARTS_MS = 180_000
# Fonts and pictures look the same on every machine.
ARGUMENTS = (
    "--disable-gpu",
    "--disable-software-rasterizer",
    "--disable-features=SpareRendererForSitePerProcess",
    "--disable-background-networking",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
)


def find_browser() -> Path | None:
    """The browser's program, or None where there is none."""
    return next((Path(path) for name in BROWSERS if (path := shutil.which(name))), None)


@contextmanager
def playwright_and_browser() -> Iterator[tuple[Playwright, Browser]]:
    """Start the browser without a window, and end it.

    Yields:
        The driver, and the browser.

    Raises:
        SystemExit: there is no browser.
    """
    from playwright.sync_api import sync_playwright

    program = find_browser()
    if program is None:
        raise SystemExit(NO_BROWSER)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=ARGUMENTS, timeout=STARTS_MS)
        try:
            yield playwright, browser
        finally:
            browser.close()
