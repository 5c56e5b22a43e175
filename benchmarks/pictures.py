"""`python -m benchmarks.pictures`: the pictures of README and documentation, from synthetic micrographs.

Takes what `make demo` left in demo/, and runs it first where that is missing. The picture of the report is a screenshot: it
needs Chromium (on Debian `apt install chromium`) and is left as it is without one.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks import demo
from benchmarks.browser import find_browser, playwright_and_browser
from microseg.core.system.files import replacing

PICTURES = Path(__file__).parents[1] / "microseg" / "docs" / "pictures"
# Largest size of a picture in bytes: README and wheel carry it.
LARGEST = 150_000
# Of a field, in native pixels: large enough to show laths, small enough to show grains.
WINDOW_PX = 640
SIDE_PX = 400
REPORT_PX = (1000, 1180)


def main() -> None:
    """Draw what can be drawn, and say what was left."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=PICTURES, help="folder for the pictures")
    options = parser.parse_args()
    if not (demo.OUT / "report" / "report.html").is_file():
        subprocess.run([sys.executable, "-m", "benchmarks.demo"], check=True)
    options.out.mkdir(parents=True, exist_ok=True)
    _write(options.out / "overlay.jpg", micrograph_and_overlay(demo.OUT / "wafer_dir", demo.OUT / "report"))
    if find_browser() is None:
        print(
            f"{options.out / 'report.png'}: left as it is. Remedy: install Chromium (on Debian `apt install chromium`)."
        )
    else:
        _write(options.out / "report.png", screenshot(demo.OUT / "report" / "report.html"))


def micrograph_and_overlay(fields: Path, report: Path) -> NDArray[np.uint8]:
    """A part of the first field, and the same part with its phases over it, side by side.

    Args:
        fields: Domain folder that was measured.
        report: Its report.

    Returns:
        uint8 (SIDE_PX, 2 SIDE_PX and a gap, 3), BGR.
    """
    image_path = sorted((fields / "images").iterdir())[0]
    (overlay_path,) = (report / "overlays").rglob(f"{image_path.name}.jpg")
    overlay = cv2.imread(str(overlay_path))
    grey = np.asarray(Image.open(image_path).convert("L"))
    assert overlay is not None
    grey = cv2.resize(grey, (overlay.shape[1], overlay.shape[0]), interpolation=cv2.INTER_AREA)
    side = min(WINDOW_PX, *grey.shape)
    parts = [cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), overlay]
    shown = [cv2.resize(part[:side, :side], (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA) for part in parts]
    gap = np.full((SIDE_PX, 10, 3), 255, np.uint8)
    return np.hstack([shown[0], gap, shown[1]]).astype(np.uint8)


def screenshot(page: Path) -> NDArray[np.uint8]:
    """The top of a page as a browser shows it, uint8 (height, width, 3), BGR."""
    width, height = REPORT_PX
    with playwright_and_browser() as (_, browser):
        shown = browser.new_page(viewport={"width": width, "height": height}, offline=True)
        shown.goto(page.resolve().as_uri())
        data = shown.screenshot()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image, np.uint8)


def _write(path: Path, image: NDArray[np.uint8]) -> None:
    """A JPEG of 85 %, or a PNG of 128 colours, that is not larger than `LARGEST`."""
    picture = Image.fromarray(image[:, :, ::-1])
    with replacing(path) as part:
        if path.suffix == ".png":
            picture.quantize(128).save(part, format="PNG", optimize=True)
        else:
            picture.save(part, format="JPEG", quality=85, optimize=True)
        size = part.stat().st_size
        if size > LARGEST:
            raise SystemExit(f"{path}: {size} bytes, of {LARGEST} allowed. Remedy: show a smaller part.")
    print(f"{path}: {size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
