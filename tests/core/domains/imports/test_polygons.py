"""Polygons to pixels, against a slow test of every pixel's centre."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.domains.imports import polygons
from microseg.core.domains.imports.polygons import ellipse, filled, rectangle, ring
from microseg.core.errors import InputError

FILE = Path("a.json")


def mask(shape: tuple[int, int], *rings: list[list[float]]) -> NDArray[np.bool_]:
    top, left, inside = filled([ring(points, "a") for points in rings], shape, FILE)
    found = np.zeros(shape, np.bool_)
    found[top : top + len(inside), left : left + inside.shape[1]] = inside
    return found


def by_centres(shape: tuple[int, int], *rings: list[list[float]]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether a ray from each centre to the left crosses the rings an odd number of times, and where rounding decides that."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] + 0.5
    inside, on_edge = np.zeros((2, *shape), np.bool_)
    for points in rings:
        for (x0, y0), (x1, y1) in zip(points, [*points[1:], points[0]], strict=True):
            crosses = (y0 > rows) != (y1 > rows)
            with np.errstate(divide="ignore", invalid="ignore"):
                x = x0 + (rows - y0) * (x1 - x0) / (y1 - y0)
            inside ^= crosses & (x <= columns)
            on_edge |= crosses & (abs(x - columns) < 1e-9)
    return inside, on_edge


def test_a_square_covers_its_area() -> None:
    found = mask((40, 50), rectangle(10, 10, 20, 20))
    assert found.sum() == 100
    assert found[10:20, 10:20].all()


def test_shapes_that_share_an_edge_share_no_pixel_and_leave_none() -> None:
    corner = (13.37, 8.91)
    parts = [
        [[0, 0], [40, 0], corner],
        [[40, 0], [40, 30], corner],
        [[40, 30], [0, 30], corner],
        [[0, 30], [0, 0], corner],
    ]
    total = sum(mask((30, 40), [list(point) for point in part]).astype(int) for part in parts)
    assert np.all(total == 1)


def test_a_hole_is_a_hole_whichever_way_it_turns() -> None:
    hole = rectangle(12, 12, 15, 15)
    for inner in (hole, hole[::-1]):
        assert mask((40, 50), rectangle(10, 10, 20, 20), inner).sum() == 100 - 9


def test_what_lies_outside_the_image_is_cut_off() -> None:
    assert mask((10, 10), rectangle(-5, -5, 5, 5)).sum() == 25
    assert mask((10, 10), rectangle(-1e6, -1e6, 1e6, 1e6)).all()
    assert not mask((10, 10), rectangle(20, 20, 30, 30)).any()
    assert not mask((10, 10), rectangle(-30, 2, -20, 5)).any()
    assert not mask((10, 10), [[1, 1], [5, 1], [9, 1]]).any()


POINTS = st.lists(st.tuples(st.integers(-30, 90), st.integers(-30, 90)), min_size=3, max_size=12)


@given(st.lists(POINTS, min_size=1, max_size=3), st.sampled_from([1, 2, 3, 7]))
def test_any_polygon_is_the_centres_that_it_contains(rings: list[list[tuple[int, int]]], divisor: int) -> None:
    scaled = [[[x / divisor, y / divisor] for x, y in points] for points in rings]
    expected, on_edge = by_centres((24, 31), *scaled)
    np.testing.assert_array_equal(mask((24, 31), *scaled) | on_edge, expected | on_edge)


def test_long_edges_are_filled_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    star = [[20 + 19 * np.cos(a), 20 + 19 * np.sin(a)] for a in np.arange(0, 2 * np.pi * 41, 2 * np.pi * 41 / 101)]
    whole = mask((40, 40), star)
    monkeypatch.setattr(polygons, "_AT_ONCE", 7)
    np.testing.assert_array_equal(mask((40, 40), star), whole)
    np.testing.assert_array_equal(by_centres((40, 40), star)[0], whole)


def test_too_many_long_edges_are_refused_at_once() -> None:
    points = np.zeros((300_000, 2))
    points[1::2, 1] = 1e6
    points[:, 0] = np.arange(len(points))
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"a\.json: a polygon has 300000 edges"):
        filled([ring(points, "a")], (20_000, 20_000), FILE)
    assert time.perf_counter() - start < 5


def test_an_ellipse_has_the_area_of_one() -> None:
    assert mask((200, 300), ellipse(150, 100, 120, 60)).sum() == pytest.approx(np.pi * 120 * 60, rel=2e-3)


@pytest.mark.parametrize(
    "points", [[[0, 0], [1, 1]], "abc", [[0], [1], [2]], [["a", 0], [1, 1], [2, 2]], None, [[0, 0], [1], [2, 2]]]
)
def test_what_is_no_outline(points: Any) -> None:
    with pytest.raises(InputError, match="shape 3: is no outline of three or more points"):
        ring(points, "shape 3")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e8, -1e300])
def test_a_point_that_is_nowhere(value: float) -> None:
    with pytest.raises(InputError, match="no place in an image"):
        ring([[0.0, 0.0], [1.0, value], [2.0, 2.0]], "shape 3")
