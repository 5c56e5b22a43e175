"""Columns that are read one by one, without an object of Python for each number."""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np
from numpy.typing import NDArray


def whole_numbers(values: NDArray[np.integer[Any]]) -> array[int]:
    """Whole numbers that are read one by one: 8 bytes each, where a list and its numbers take 40."""
    return array("q", np.ascontiguousarray(values, np.int64).tobytes())


def real_numbers(values: NDArray[np.float64]) -> array[float]:
    """As `whole_numbers`, of real numbers."""
    return array("d", np.ascontiguousarray(values, np.float64).tobytes())
