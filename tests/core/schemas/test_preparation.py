"""Ranges of pixel sizes."""

from __future__ import annotations

import pytest

from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange, Preparation, known_pixel_sizes

RANGE = PixelSizeRange(smallest_um=0.02, largest_um=0.05)


def test_a_range_over_ranges() -> None:
    assert PixelSizeRange.over([None, PixelSizeRange.spanning(0.03), RANGE]) == RANGE
    assert PixelSizeRange.over([None, None]) is None


@pytest.mark.parametrize(
    ("edges", "factor"), [((0.1,), 2.0), ((0.03,), 0.667), ((0.01, 0.03), 2.0), ((0.03, 0.2), 4.0)]
)
def test_how_far_beyond(edges: tuple[float, ...], factor: float) -> None:
    assert RANGE.factor_beyond(*edges) == pytest.approx(factor, abs=1e-3)


def test_in_words() -> None:
    assert RANGE.text == "0.02 to 0.05 um"
    assert PixelSizeRange.spanning(0.0277, 0.02770001).text == "0.0277 um"


def test_what_networks_of_earlier_versions_saw() -> None:
    domains = [
        DomainEntry(name="sem", preparation=Preparation(pixel_size_um=0.0277)),
        DomainEntry(name="lom", preparation=Preparation(pixel_size_um=0.1)),
        DomainEntry(name="bare"),
    ]
    grid = Grid(pixel_size_um=0.0554)
    assert known_pixel_sizes(None, grid, domains) == PixelSizeRange(smallest_um=0.0277, largest_um=0.1)
    assert known_pixel_sizes(RANGE, grid, domains) == RANGE
    assert known_pixel_sizes(None, Grid(), domains) is None
    assert known_pixel_sizes(None, grid, domains[2:]) is None
