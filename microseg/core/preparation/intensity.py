"""Grey values to 8 bit by one stored rule. Its statistics do not depend on how a field is read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.notices import Notice
from microseg.core.preparation.bit_depth import (
    Stripes,
    common_bits,
    doubtful_bits,
    float_range,
    integer_range,
    resolve_bits,
)
from microseg.core.preparation.percentiles import percentiles
from microseg.core.schemas.preparation import Intensity

EightBit = Callable[[NDArray[Any]], NDArray[np.uint8]]


@dataclass(frozen=True)
class ToEightBit:
    """How the grey values of one field become 8 bit.

    Attributes:
        convert: the function from grey values to uint8.
        rule: the rule as the field resolves it.
        notices: what the user should know.
        burnt_in: a grey value that no detector gives: pixels that hold it are no material; or None.
    """

    convert: EightBit
    rule: Intensity
    notices: tuple[Notice, ...] = ()
    burnt_in: int | None = None


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


def combined_rule(rule: Intensity, fields: Sequence[Intensity]) -> Intensity:
    """The rule of a domain.

    Args:
        rule: the rule as stated.
        fields: the rule as each field resolved it.

    Returns:
        `bit_depth` without bits takes those of `common_bits`, which one outlier does not change. `significant_bits` without
        bits takes the most bits of any 16-bit field. It stays open where all fields are 8 bit, and becomes `percentiles` where
        all are float, which has no bits. Other rules stay as stated.
    """
    if rule.bits is not None:
        return rule
    if rule.rule == "bit_depth":
        return rule.model_copy(update={"bits": common_bits(fields)})
    if rule.rule != "significant_bits":
        return rule
    if bits := [field.bits for field in fields if field.rule == "significant_bits" and field.bits is not None]:
        return rule.model_copy(update={"bits": max(bits)})
    if fields and all(field.rule == "percentiles" for field in fields):
        return rule.model_copy(update={"rule": "percentiles"})
    return rule


def eight_bit(
    rule: Intensity, dtype: np.dtype[Any], stripes: Stripes, name: str, *, white_is_zero: bool = False
) -> ToEightBit:
    """The map to 8 bit for one field.

    Args:
        rule: the domain's rule. `bit_depth`: uint8 unchanged; uint16 by `integer_range`; float by `float_range`. `full`:
            uint8 unchanged, uint16 / 257, float 0 to 1. `significant_bits`: uint8 unchanged; uint16 by `bits`, or by the
            field's own maximum where that is None; float by percentiles. `percentiles`: of the field, any dtype; where both
            are equal, all values above become 255.
        dtype: data type of the field.
        stripes: gives the field's stripes, each call from the start.
        name: the field, for messages.
        white_is_zero: whether the file stores white as 0, and its unsigned values come inverted within their type.

    Returns:
        The map, the rule as resolved, and notices.

    Raises:
        FieldError: a float beyond 0 to 1 for the rule `full`; or, for `bit_depth`, values whose scale is not known.
    """
    if dtype == np.uint8 and rule.rule != "percentiles":
        return ToEightBit(uint8_identity, rule)
    match rule.rule, dtype.kind:
        case "bit_depth", "f":
            found = float_range(stripes, name)
            return ToEightBit(found.of_floats, rule, found.notices)
        case "bit_depth", _:
            return _by_bit_depth(rule, stripes, name, white_is_zero)
        case "full", "f":
            return ToEightBit(_checked_unit_range(scale_to_8_bit(0.0, 1.0, dtype), name), rule)
        case "full" | "significant_bits", "u":
            return _by_type_or_maximum(rule, dtype, stripes)
    low, high = percentiles(stripes, rule.low, rule.high)
    resolved: Intensity = rule
    notices: tuple[Notice, ...] = ()
    if rule.rule == "significant_bits":
        resolved = rule.model_copy(update={"rule": "percentiles"})
        told = f"float field has no significant bits: percentiles {rule.low:g} to {rule.high:g} used instead"
        notices = (Notice("grey values", told),)
    return ToEightBit(scale_to_8_bit(low, high if high > low else low + 1.0, dtype), resolved, notices)


def _by_bit_depth(rule: Intensity, stripes: Stripes, name: str, white_is_zero: bool) -> ToEightBit:
    counts = _histogram(stripes)
    if white_is_zero:
        counts = counts[::-1]
    found = integer_range(counts, rule.bits, name)
    table = found.of_integers(np.arange(counts.size))
    if white_is_zero:
        table = np.ascontiguousarray(255 - table[::-1])
    burnt_in = found.burnt_in
    if burnt_in is not None and white_is_zero:
        burnt_in = counts.size - 1 - burnt_in
    resolved = rule.model_copy(update={"bits": found.bits})
    return ToEightBit(lambda grey: np.take(table, grey), resolved, found.notices, burnt_in)


def _by_type_or_maximum(rule: Intensity, dtype: np.dtype[Any], stripes: Stripes) -> ToEightBit:
    """The rules of earlier engines for 16 bit. Both may read more bits than the picture has, and say so."""
    counts = _histogram(stripes)
    brightest = int(np.flatnonzero(counts)[-1])
    bits, told = 16, ""
    if rule.rule == "significant_bits":
        bits = rule.bits or resolve_bits(brightest)
        if rule.bits is None:
            told = f"16 bit are read with {bits} significant bits, which the brightest pixel of the field decides"
        elif brightest >= 2**bits:
            told = f"the brightest pixel, {brightest}, is beyond the {bits} bits of the domain: such pixels become 255"
        rule = rule.model_copy(update={"bits": bits})
    doubt = doubtful_bits(counts, bits)
    notices = tuple(Notice("grey values", text) for text in (told, doubt) if text)
    return ToEightBit(scale_to_8_bit(0, 2**bits - 1, dtype), rule, notices)


def _histogram(stripes: Stripes) -> NDArray[np.int64]:
    """How often each value of a 16-bit field occurs, int64 (65536,)."""
    counts = np.zeros(1 << 16, np.int64)
    for stripe in stripes():
        counts += np.bincount(stripe.ravel(), minlength=counts.size)
    return counts


def _checked_unit_range(convert: EightBit, name: str) -> EightBit:
    def checked(grey: NDArray[Any]) -> NDArray[np.uint8]:
        if grey.size and (grey.min() < 0 or grey.max() > 1):
            raise FieldError(
                f"{name}: float values from {grey.min():g} to {grey.max():g}, beyond 0 to 1. "
                "Remedy: `intensity: {rule: percentiles}` in domain.yaml."
            )
        return convert(grey)

    return checked
