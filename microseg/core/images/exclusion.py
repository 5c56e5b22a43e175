"""Pixels of a field that are no material: they are neither in the numerator nor in the denominator of a fraction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOT_MEASURED = 255
"""Mask value of native pixels that are not measured."""


@dataclass(frozen=True)
class Exclusion:
    """Pixels that are not measured, for one reason.

    Attributes:
        reason: what reports call it: "transparent", "padding".
        rows: `rows(start, stop)` gives native rows of the file before the crop, bool (n, width): True where not measured.
    """

    reason: str
    rows: Callable[[int, int], NDArray[np.bool_]]
