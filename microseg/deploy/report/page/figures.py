"""Figures of the page in words: fractions in per cent, intervals, differences in points, areas."""

from __future__ import annotations

from collections.abc import Sequence

NOTHING = "\N{EN DASH}"


def percent(fraction: float | None, digits: int = 2) -> str:
    """A fraction as a percentage without the sign; a dash for None."""
    return NOTHING if fraction is None else f"{100 * fraction:.{digits}f}"


def interval_text(interval: Sequence[float] | None, digits: int = 2) -> str:
    """An interval of fractions as percentages without the sign: "12.30 to 14.10"; a dash for None."""
    if interval is None:
        return NOTHING
    low, high = interval
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f}"


def points(fraction: float | None) -> str:
    """A difference of fractions in percentage points, with a plus-minus sign; a dash for None."""
    return NOTHING if fraction is None else f"± {100 * fraction:.2f}"


def figure(value: float | None) -> str:
    """A number with one decimal; a dash for None."""
    return NOTHING if value is None else f"{value:.1f}"


def area(area_um2: float | None) -> str:
    """An area with the unit that suits it; a dash for None."""
    if area_um2 is None:
        return NOTHING
    return f"{area_um2 / 1e6:.3g} mm²" if area_um2 >= 5e3 else f"{area_um2:.4g} µm²"
