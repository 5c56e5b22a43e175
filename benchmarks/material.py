"""`python -m benchmarks.material`: whether material is ever taken for a data bar or for padding.

It tries synthetic fields of four domains and the real micrographs beside the project, as they are and clipped to ranges, as
with too much gain or offset of a detector. None of them has a bar or padding: everything that is found is an error.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from microseg.core.material.data_bar import find_bar
from microseg.core.material.padding import padding
from microseg.synthetic.field import synthesise_field

DOMAINS = ("s", "t1", "t2", "t3")
# Percentiles that become black and white.
RANGES = ((0, 100), (2, 98), (20, 100), (0, 80), (40, 100), (0, 60), (30, 70), (60, 100), (0, 40))
DATA = Path(__file__).parents[2] / "shared" / "data"
PATTERNS = ("coating/*/images/*.png", "superalloy/*/*.tif", "superalloy-aged/images/*.jpg", "titanium/images/*.jpg")


def synthetic(each: int) -> Iterator[tuple[str, NDArray[np.uint8], bool]]:
    """Name, grey values and whether JPEG changed them, of so many fields of each domain."""
    for domain in DOMAINS:
        for number in range(each):
            size = (1024, 717) if number % 5 == 0 else (640, 512)
            field = synthesise_field(domain, 1000 + number, size_px=size, fraction=0.35 + 0.4 * (number % 7) / 6)
            yield f"{domain} {number}", field.image, False


def real() -> Iterator[tuple[str, NDArray[np.uint8], bool]]:
    """The same of the real micrographs."""
    for path in (path for pattern in PATTERNS for path in sorted(DATA.glob(pattern))):
        grey = np.asarray(Image.open(path).convert("RGB"))[..., 1]
        yield str(path.relative_to(DATA)), grey, path.suffix == ".jpg"


def clipped(grey: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """The field with each of `RANGES` stretched to 0 to 255."""
    for low, high in RANGES:
        below, above = np.percentile(grey, (low, high))
        stretched = np.clip((grey - below) * 255 / max(above - below, 1), 0, 255)
        yield grey if (low, high) == (0, 100) else stretched.round().astype(np.uint8)


def found_in(grey: NDArray[Any], is_lossy: bool) -> list[str]:
    """What is taken for no material in a field that has nothing but material."""

    def rows(start: int, stop: int, left: int = 0, right: int | None = None) -> NDArray[Any]:
        return grey[start:stop, left:right]

    found = []
    for edge in ("top", "bottom"):
        bar = find_bar(rows, *grey.shape, at_top=edge == "top", is_lossy=is_lossy)
        if bar is not None:
            found.append(f"{'a' if bar.is_sure else 'perhaps a'} bar of {bar.rows} rows at the {edge}")
    if padding(rows, *grey.shape, is_lossy=is_lossy) is not None:
        found.append("padding")
    return found


def main() -> None:
    """Print what is found, and how much was tried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fields", type=int, default=50, help="synthetic fields of each domain")
    each = parser.parse_args().fields
    print("| fields | number | pictures tried | taken for a bar or padding |\n| --- | --- | --- | --- |")
    for title, fields in (("synthetic, 4 domains", synthetic(each)), ("real", real())):
        number = tried = wrong = 0
        details = []
        for name, grey, is_lossy in fields:
            number += 1
            for picture in clipped(grey):
                tried += 1
                if errors := found_in(picture, is_lossy):
                    wrong += 1
                    details.append(f"{name}: {', '.join(errors)}")
        print(f"| {title} | {number} | {tried} | {wrong} |", *details, sep="\n", flush=True)


if __name__ == "__main__":
    main()
