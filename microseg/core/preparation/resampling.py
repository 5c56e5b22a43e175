"""Native grid to network grid and back, bit for bit the same whether a field is read whole or in stripes.

OpenCV's INTER_AREA is not: each stripe starts a grid of its own, and at 0.37 network pixels per native pixel 85 % of the
pixels of a field of noise differ between stripes of 100 rows and the whole, by up to 60 grey values. The weights here are
those of the whole field, so none differs (`tests/core/preparation/test_prepared_field.py`).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def network_side(native_px: int, factor: float) -> int:
    """Length of a side on the network's grid in pixels, rounded half up, at least 1.

    Args:
        native_px: the side in native pixels.
        factor: network pixels per native pixel.
    """
    return max(1, math.floor(native_px * factor + 0.5))


@lru_cache(maxsize=32)
def resampling_weights(source_px: int, target_px: int) -> csr_array:
    """Weights of the source pixels in each target pixel along one axis. Each row sums to 1.

    Area averaging where the side shrinks, linear interpolation between pixel centres where it grows.

    Args:
        source_px: length of the side on the source grid.
        target_px: length of the side on the target grid.

    Returns:
        Sparse float32 (target_px, source_px).
    """
    # Imported here: scipy takes longer to import than a small field to measure, and native pixels do not need it.
    from scipy.sparse import csr_array

    scale = source_px / target_px
    rows: list[int] = []
    columns: list[int] = []
    weights: list[float] = []
    for target in range(target_px):
        if scale >= 1:
            low, high = target * scale, min((target + 1) * scale, source_px)
            for source in range(int(low), min(math.ceil(high), source_px)):
                covered = min(high, source + 1) - max(low, source)
                if covered > 1e-9:
                    rows.append(target)
                    columns.append(source)
                    weights.append(covered / (high - low))
        else:
            centre = min(max((target + 0.5) * scale - 0.5, 0.0), source_px - 1.0)
            source = int(centre)
            share = centre - source
            for offset, weight in ((0, 1.0 - share), (1, share)):
                if weight > 0:
                    rows.append(target)
                    columns.append(source + offset)
                    weights.append(weight)
    return csr_array(
        (np.asarray(weights, np.float32), (np.asarray(rows), np.asarray(columns))), shape=(target_px, source_px)
    )


def source_rows(source_px: int, target_px: int, start: int, stop: int) -> tuple[int, int]:
    """First source row, and the row after the last, that the target rows `start` to `stop` are made of."""
    used = resampling_weights(source_px, target_px)[start:stop].indices
    return int(used.min()), int(used.max()) + 1


def resample_rows(
    block: NDArray[np.uint8], first: int, native: tuple[int, int], shape: tuple[int, int], start: int, stop: int
) -> NDArray[np.uint8]:
    """Target rows of a field from the native rows that they are made of.

    Each pixel is the same sum in the same order whatever is computed with it, so stripes equal the whole.

    Args:
        block: native rows from `first` on, uint8 (n, native width); see `source_rows`.
        first: number of the first native row.
        native: native (height, width) of the field.
        shape: its (height, width) on the target grid.
        start: first target row.
        stop: the target row after the last.

    Returns:
        uint8 (stop - start, target width).
    """
    down = resampling_weights(native[0], shape[0])[start:stop, first : first + len(block)]
    across = resampling_weights(native[1], shape[1])
    rows = np.ascontiguousarray(down @ block.astype(np.float32))
    columns = across @ cv2.transpose(rows)
    rounded: NDArray[np.uint8] = np.rint(columns, out=columns).astype(np.uint8)
    return np.ascontiguousarray(rounded.T)


def nearest_indices(source_px: int, target_px: int) -> NDArray[np.intp]:
    """For each target pixel the source pixel under its centre, intp (target_px,)."""
    return np.minimum(((np.arange(target_px) + 0.5) * (source_px / target_px)).astype(np.intp), source_px - 1)
