"""Grey values to 8 bit by one stored rule. Its statistics do not depend on how a field is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.notices import Notice
from microseg.core.schemas.preparation import Intensity

EightBit = Callable[[NDArray[Any]], NDArray[np.uint8]]
_HALF_BITS = 16


def uint8_identity(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """Grey values that are 8 bit already, unchanged."""
    return grey.astype(np.uint8, copy=False)


def scale_to_8_bit(low: float, high: float, dtype: np.dtype[Any]) -> EightBit:
    """The function that maps `low` to 0 and `high` to 255: linear, rounded half to even, clipped.

    Integers go through a table of all values, floats through float32 arithmetic for each pixel.

    Args:
        low: the value that becomes 0.
        high: the value that becomes 255.
        dtype: data type of the grey values.
    """
    span = high - low

    def linear(grey: NDArray[Any]) -> NDArray[np.uint8]:
        scaled = (grey - np.float32(low)) * np.float32(255.0 / span)
        return _rounded(scaled)

    if dtype.kind == "f":
        return linear
    table = _rounded((np.arange(np.iinfo(dtype).max + 1) - low) * (255.0 / span))
    return lambda grey: np.take(table, grey)


def _rounded(scaled: NDArray[Any]) -> NDArray[np.uint8]:
    rounded: NDArray[np.uint8] = np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
    return rounded


def resolve_bits(maximum: int) -> int:
    """Significant bits of integer values up to `maximum`: 8, 10, 12, 14 or 16.

    Cameras have even numbers of bits. Rounding up to them gives the dark fields of one camera the scale of the bright ones.
    """
    bits = int(maximum).bit_length()
    return max(8, bits + bits % 2)


def combined_rule(rule: Intensity, fields: Sequence[Intensity]) -> Intensity:
    """The rule of a domain.

    Args:
        rule: the rule as stated.
        fields: the rule as each field resolved it.

    Returns:
        `significant_bits` without bits takes the most bits of any 16-bit field. It stays open where all fields are 8 bit, and
        becomes `percentiles` where all are float, which has no bits. Other rules stay as stated.
    """
    if rule.rule != "significant_bits" or rule.bits is not None:
        return rule
    if bits := [field.bits for field in fields if field.rule == "significant_bits" and field.bits is not None]:
        return rule.model_copy(update={"bits": max(bits)})
    if fields and all(field.rule == "percentiles" for field in fields):
        return rule.model_copy(update={"rule": "percentiles"})
    return rule


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


def eight_bit(
    rule: Intensity, dtype: np.dtype[Any], stripes: Callable[[], Iterable[NDArray[Any]]], name: str
) -> tuple[EightBit, Intensity, tuple[Notice, ...]]:
    """The map to 8 bit for one field.

    Args:
        rule: the domain's rule. `full`: uint8 unchanged, uint16 / 257, float 0 to 1. `significant_bits`: uint8 unchanged;
            uint16 by `bits`, or by the field's own maximum where that is None; float by percentiles. `percentiles`: of the
            field, any dtype; where both are equal, all values above become 255.
        dtype: data type of the field.
        stripes: gives the field's stripes, each call from the start.
        name: the field, for messages.

    Returns:
        The function from grey values to uint8, the rule as resolved, and notices for the user.

    Raises:
        FieldError: a float beyond 0 to 1 for the rule `full`.
    """
    notices: tuple[Notice, ...]
    match rule.rule:
        case "full" if dtype.kind == "f":
            return _checked_unit_range(scale_to_8_bit(0.0, 1.0, dtype), name), rule, ()
        case "full" | "significant_bits" if dtype == np.uint8:
            return uint8_identity, rule, ()
        case "full":
            return scale_to_8_bit(0, np.iinfo(dtype).max, dtype), rule, ()
        case "significant_bits" if dtype.kind != "f":
            brightest = max(int(stripe.max()) for stripe in stripes())
            bits = rule.bits or resolve_bits(brightest)
            notices = ()
            if rule.bits is None:
                told = f"16 bit are read with {bits} significant bits, which the brightest pixel of the field decides"
                notices = (Notice("grey values", told),)
            elif brightest >= 2**bits:
                told = (
                    f"the brightest pixel, {brightest}, is beyond the {bits} bits of the domain: such pixels become 255"
                )
                notices = (Notice("grey values", told),)
            return scale_to_8_bit(0, 2**bits - 1, dtype), rule.model_copy(update={"bits": bits}), notices
    low, high = percentiles(stripes, rule.low, rule.high)
    resolved, notices = rule, ()
    if rule.rule == "significant_bits":
        resolved = rule.model_copy(update={"rule": "percentiles"})
        told = f"float field has no significant bits: percentiles {rule.low:g} to {rule.high:g} used instead"
        notices = (Notice("grey values", told),)
    return scale_to_8_bit(low, high if high > low else low + 1.0, dtype), resolved, notices


def _checked_unit_range(convert: EightBit, name: str) -> EightBit:
    def checked(grey: NDArray[Any]) -> NDArray[np.uint8]:
        if grey.size and (grey.min() < 0 or grey.max() > 1):
            raise FieldError(
                f"{name}: float values from {grey.min():g} to {grey.max():g}, beyond 0 to 1. "
                "Remedy: `intensity: {rule: percentiles}` in domain.yaml."
            )
        return convert(grey)

    return checked
