"""Pixels of a field that are no material: they are neither in the numerator nor in the denominator of a fraction."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from microseg.core.notices import Notice

NOT_MEASURED = 255
"""Mask value of native pixels that are not measured."""


def artefact_reason(phase: str) -> str:
    """The reason why pixels of a phase that is no material are not measured."""
    return f"artefacts ({phase})"


@dataclass(frozen=True)
class Exclusion:
    """Pixels that are not measured, for one reason.

    Attributes:
        reason: what reports call it: "transparent", "padding".
        rows: `rows(start, stop)` gives native rows of the file before the crop, bool (n, width): True where not measured.
    """

    reason: str
    rows: Callable[[int, int], NDArray[np.bool_]]

    @classmethod
    def of(cls, reason: str, outside: NDArray[np.bool_]) -> Exclusion:
        """The exclusion of an array, bool (height, width): True where not measured."""
        return cls(reason, lambda start, stop: outside[start:stop])


def merged(
    exclusions: Sequence[Exclusion], rows: Sequence[NDArray[np.bool_]], counts: dict[str, int]
) -> NDArray[np.bool_] | None:
    """Pixels that are not measured for any reason.

    Args:
        exclusions: the exclusions of a field.
        rows: the same rows of each of them, bool (n, width).
        counts: pixels by reason; each pixel is added to the first reason that it has.

    Returns:
        bool (n, width); None without exclusions.
    """
    outside: NDArray[np.bool_] | None = None
    for each, part in zip(exclusions, rows, strict=True):
        counts[each.reason] += int(np.count_nonzero(part if outside is None else part & ~outside))
        outside = part if outside is None else outside | part
    return outside


def not_measured_notices(counts: Mapping[str, int], pixels: int) -> tuple[Notice, ...]:
    """A notice with the share of each reason.

    Args:
        counts: native pixels that are not measured, by reason.
        pixels: native pixels of the field after the crop.
    """
    return tuple(
        Notice("not measured", f"{100 * count / pixels:.2f} % of the pixels are {reason}: they are not measured")
        for reason, count in counts.items()
        if count
    )
