"""Grey values to 8 bit by one stored rule, from statistics that do not depend on how a field is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.schemas.preparation import Intensity

EightBit = Callable[[NDArray[Any]], NDArray[np.uint8]]
_HALF_BITS = 16


def uint8_identity(grey: NDArray[Any]) -> NDArray[np.uint8]:
    """What is 8 bit already stays as it is."""
    return grey.astype(np.uint8, copy=False)


def scale_to_8_bit(low: float, high: float, dtype: np.dtype[Any]) -> EightBit:
    """The function that maps `low` to 0 and `high` to 255, linearly, rounded half to even, clipped.

    Integers go through a table of all values; floats through the same float32 arithmetic pixel by pixel.
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

    Rounded up to what cameras have, so that the darker fields of one camera do not get another scale.
    """
    bits = int(maximum).bit_length()
    return max(8, bits + bits % 2)


def combined_rule(rule: Intensity, fields: Sequence[Intensity]) -> Intensity:
    """The rule of a domain from `rule` as it was stated and as each field resolved it.

    significant_bits without bits: the most of any 16-bit field; open where all are 8 bit (they need none); percentiles
    where every field is float (they have no bits).
    """
    if rule.rule != "significant_bits" or rule.bits is not None:
        return rule
    if bits := [field.bits for field in fields if field.rule == "significant_bits" and field.bits is not None]:
        return rule.model_copy(update={"bits": max(bits)})
    if fields and all(field.rule == "percentiles" for field in fields):
        return rule.model_copy(update={"rule": "percentiles"})
    return rule


def percentiles(stripes: Callable[[], Iterable[NDArray[Any]]], low: float, high: float) -> tuple[float, float]:
    """Exact nearest-rank percentiles `low` and `high` (0-100) of all values; independent of the stripes' cut.

    `stripes` is called once for integers and twice for floats: the histogram of the upper 16 bits of an order-keeping
    key finds the bucket, that of the lower 16 bits inside it the value.
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
) -> tuple[EightBit, Intensity, tuple[str, ...]]:
    """The map to 8 bit for one field: function, the rule as resolved, notices.

    full: uint8 as it is, uint16 / 257, float 0..1 (FieldError beyond). significant_bits: uint8 as it is; uint16 by
    `bits`, or by this field's own maximum where null; a float has no bits, so it takes the percentiles of the field.
    percentiles: of the field, any dtype; where both are equal, all above them becomes 255.
    """
    notices: tuple[str, ...]
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
                notices = (f"16-bit field read with {bits} significant bits, from its own brightest pixel",)
            elif brightest >= 2**bits:
                notices = (
                    f"brightest pixel {brightest} is beyond the {bits} bits of this domain: such pixels are cut off",
                )
            return scale_to_8_bit(0, 2**bits - 1, dtype), rule.model_copy(update={"bits": bits}), notices
    low, high = percentiles(stripes, rule.low, rule.high)
    resolved, notices = rule, ()
    if rule.rule == "significant_bits":
        resolved = rule.model_copy(update={"rule": "percentiles"})
        notices = (f"float field has no significant bits: percentiles {rule.low:g} to {rule.high:g} used instead",)
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
