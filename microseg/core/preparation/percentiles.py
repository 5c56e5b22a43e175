"""Exact percentiles of a field that is read in stripes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

_HALF_BITS = 16


def percentiles(stripes: Callable[[], Iterable[NDArray[Any]]], low: float, high: float) -> tuple[float, float]:
    """Exact nearest-rank percentiles of all values of a field.

    The result does not depend on how the field is cut into stripes. For floats, the histogram of the upper 16 bits of an
    order-keeping key finds the bucket, and that of the lower 16 bits the value in it.

    Args:
        stripes: gives the field's stripes; called once for integers, twice for floats.
        low: a percentile, 0-100.
        high: another one.

    Returns:
        The grey values of both percentiles.
    """
    upper = np.zeros(1 << _HALF_BITS, np.int64)
    is_float = False
    for stripe in stripes():
        is_float = stripe.dtype.kind == "f"
        values = _keys(stripe) >> _HALF_BITS if is_float else stripe
        upper += np.bincount(values.ravel(), minlength=upper.size)
    total = int(upper.sum())
    ranks = [min(total, max(1, math.ceil(p / 100.0 * total))) for p in (low, high)]
    below = np.cumsum(upper)
    buckets = [int(np.searchsorted(below, rank)) for rank in ranks]
    if not is_float:
        return float(buckets[0]), float(buckets[1])
    lower = {bucket: np.zeros(1 << _HALF_BITS, np.int64) for bucket in buckets}
    for stripe in stripes():
        keys = _keys(stripe).ravel()
        for bucket, counts in lower.items():
            inside = keys[keys >> _HALF_BITS == bucket]
            counts += np.bincount(inside & ((1 << _HALF_BITS) - 1), minlength=counts.size)
    found = []
    for rank, bucket in zip(ranks, buckets, strict=True):
        offset = rank - int(below[bucket - 1]) if bucket else rank
        key = np.uint32((bucket << _HALF_BITS) + int(np.searchsorted(np.cumsum(lower[bucket]), offset)))
        found.append(float(_from_key(key)))
    return found[0], found[1]


def _keys(values: NDArray[Any]) -> NDArray[np.uint32]:
    """uint32 in the order of the float32 values (IEEE 754: flip the sign bit, or every bit of negatives)."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return bits ^ np.where(bits >> 31, np.uint32(0xFFFFFFFF), np.uint32(0x80000000))


def _from_key(key: np.uint32) -> np.float32:
    flip = np.uint32(0x80000000) if key >> 31 else np.uint32(0xFFFFFFFF)
    return np.float32(np.array([key ^ flip], np.uint32).view(np.float32)[0])
