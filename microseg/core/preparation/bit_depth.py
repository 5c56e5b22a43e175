"""The rule `bit_depth`: a field's grey values become the upper 8 of the bits in use. A few pixels do not decide these.

The lower bits are cut off rather than rounded. So a picture keeps its values whether it was widened by zeros (x 16 for 12 bits)
or to the full range (x 4095 / 255), as cameras and programs do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.notices import Notice
from microseg.core.preparation.percentiles import percentiles
from microseg.core.schemas.preparation import Intensity

HIGH_PERCENTILE = 99.9
"""The significant bits are those of this percentile: hot pixels and a burnt-in scale bar do not reach it."""
_LOW_PERCENTILE = 0.1
# A 16-bit file that holds signed values begins at the middle of the type.
_OFFSET = 32768
# An image of more bits behind the offset may as well be the bright half of a full 16-bit range.
_OFFSET_BITS = 12
# Black behind an offset lies within this share of the range; beyond, it is not known what black is.
_LARGEST_BLACK = 1 / 4
# A camera's dark fields use fewer bits than its bright ones: two fewer at most.
_DARK_BITS = 2
# 99.9 % of a float field below this share of the full scale: the scale is not known.
_SMALLEST_FLOAT = 1 / 32
_NEGATIVE_SHARE = 0.02
# A domain's bits are those that this share of its fields reaches.
_REACHED = 0.25

Stripes = Callable[[], Iterable[NDArray[Any]]]
_PERCENTILE_REMEDY = "Remedy: `intensity: {rule: percentiles}` in domain.yaml"


@dataclass(frozen=True)
class Range:
    """The range of stored values that becomes 0 to 255.

    Attributes:
        bits: significant bits; None for floats from 0 to 1.
        offset: the value that becomes 0.
        notices: what the user should know.
        burnt_in: a value far above all others, which no detector gives: pixels that hold it are no material; or None.
    """

    bits: int | None
    offset: int
    notices: tuple[Notice, ...]
    burnt_in: int | None = None

    def of_integers(self, values: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Integer values to 8 bit."""
        assert self.bits is not None
        upper = (values.astype(np.int64) - self.offset) >> (self.bits - 8)
        return np.asarray(np.clip(upper, 0, 255), np.uint8)

    def of_floats(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Float values to 8 bit."""
        if self.bits is None or self.bits == 8:
            scaled = np.rint(values * np.float32(255 if self.bits is None else 1))
        else:
            scaled = np.floor(values / np.float32(2 ** (self.bits - 8)))
        return np.asarray(np.clip(scaled, 0, 255), np.uint8)


def resolve_bits(maximum: int) -> int:
    """Significant bits of integer values up to `maximum`: 8, 10, 12, 14 or 16.

    Cameras have even numbers of bits. Rounding up to them gives the dark fields of one camera the scale of the bright ones.
    """
    bits = int(maximum).bit_length()
    return max(8, bits + bits % 2)


def integer_range(counts: NDArray[np.int64], stated: int | None, name: str) -> Range:
    """The range of a 16-bit field.

    Args:
        counts: how often each value occurs, int64 (65536,).
        stated: bits of the domain, or None. A field that is darker by up to two bits takes them; any other keeps its own.
        name: the field, for messages.

    Raises:
        FieldError: the values begin at 32768 or above and it is not known what black is.
    """
    largest = len(counts) - 1
    below = np.cumsum(counts[:largest])
    if not below[-1]:
        raise FieldError(
            f"{name}: every pixel has the largest value, {largest}. Remedy: capture it again, or remove it."
        )
    low, high = (_value_at(below, percentile) for percentile in (_LOW_PERCENTILE, HIGH_PERCENTILE))
    offset = _offset(low, high, stated, name)
    own = resolve_bits(high - offset)
    bits = stated if stated is not None and own in (stated, stated - _DARK_BITS) else own
    top = offset + 2**bits - 1
    told = (
        f"16 bit are read with {bits} significant bits: {HIGH_PERCENTILE} % of the pixels below {largest} need no more"
    )
    notices = [] if stated == bits else [told + (f"; the domain has {stated}" if stated is not None else "")]
    if offset:
        notices.append(f"values begin at {int(np.flatnonzero(counts)[0])}: {offset} is taken off them")
    if above := int(counts[top + 1 : largest].sum()):
        notices.append(f"{above} px ({above / int(counts.sum()):.3%}) are above the {bits} bits: they become 255")
    burnt_in = None if above or top >= largest or not counts[largest] else largest
    if burnt_in:
        many = int(counts[burnt_in])
        notices.append(
            f"{many} px ({many / int(counts.sum()):.3%}) hold {burnt_in}, far above all others: they are not measured"
        )
    return Range(bits, offset, tuple(Notice("grey values", text) for text in notices), burnt_in)


def _value_at(below: NDArray[np.int64], percentile: float) -> int:
    """Nearest-rank percentile of values with these cumulative counts."""
    total = int(below[-1])
    return int(np.searchsorted(below, min(total, max(1, math.ceil(percentile / 100 * total)))))


def _offset(low: int, high: int, stated: int | None, name: str) -> int:
    """What is taken off all values: 0, or 32768 where the field begins there."""
    if low < _OFFSET or stated == 16:
        return 0
    bits = resolve_bits(high - _OFFSET)
    black = (low - _OFFSET) / 2**bits
    if bits <= _OFFSET_BITS and black <= _LARGEST_BLACK:
        return _OFFSET
    raise FieldError(
        f"{name}: 16-bit values from {low} to {high} ({_LOW_PERCENTILE} and {HIGH_PERCENTILE} percentile): nothing is "
        f"near 0 or {_OFFSET}, so it is not known which value is black. Remedy: save the file with black at 0; or "
        "`intensity: {bits: 16}` in domain.yaml where 0 is black; or `intensity: {rule: percentiles}`."
    )


def doubtful_bits(counts: NDArray[np.int64], bits: int) -> str:
    """A notice where 16-bit values are read with more bits than they use, or begin at 32768; else "".

    Args:
        counts: how often each value occurs, int64 (65536,).
        bits: the significant bits in use.
    """
    below = np.cumsum(counts[:-1])
    if not below[-1]:
        return ""
    low, high = (_value_at(below, percentile) for percentile in (_LOW_PERCENTILE, HIGH_PERCENTILE))
    if low < _OFFSET and resolve_bits(high) >= bits - _DARK_BITS:
        return ""
    return (
        f"{HIGH_PERCENTILE} % of the pixels lie from {low} to {high}, and the engine's rule reads 0 to {2**bits - 1}: the "
        "fractions may be wrong. Remedy: `intensity: {rule: bit_depth}` in domain.yaml"
    )


def float_range(stripes: Stripes, name: str) -> Range:
    """The range of a float field: 0 to 1, or the bits of its values.

    Args:
        stripes: gives the field's stripes, each call from the start.
        name: the field, for messages.

    Raises:
        FieldError: negative values, or values that use so little of a scale that it is not known which one.
    """
    low, high = percentiles(stripes, _LOW_PERCENTILE, HIGH_PERCENTILE)
    found = f"float values from {low:g} to {high:g} ({_LOW_PERCENTILE} and {HIGH_PERCENTILE} percentile)"
    bits = None if high <= 1 else resolve_bits(math.ceil(min(high, 65535)))
    top = 1.0 if bits is None else 2.0**bits - 1
    if low < -_NEGATIVE_SHARE * top or high > 65535 or high < _SMALLEST_FLOAT * top:
        raise FieldError(
            f"{name}: {found}: their scale is not known. {_PERCENTILE_REMEDY}, or save it with 8 or 16 bit."
        )
    scale = "0 to 1" if bits is None else f"{bits} significant bits"
    return Range(bits, 0, (Notice("grey values", f"{found} are read as {scale}"),))


def common_bits(fields: Sequence[Intensity]) -> int | None:
    """The bits of a domain: the most that a quarter of its 16-bit fields, and at least two of three or more, reach.

    Args:
        fields: the rule as each field resolves it alone.

    Returns:
        None where no field has 16 bits.
    """
    bits = sorted((field.bits for field in fields if field.bits is not None), reverse=True)
    if not bits:
        return None
    needed = max(min(2, len(bits) - 1), math.ceil(_REACHED * len(bits)), 1)
    return bits[needed - 1]


def other_bits(fields: Iterable[tuple[str, Intensity]], domain: Intensity) -> tuple[str, ...]:
    """Notices on the fields whose significant bits are not those of their domain: they do not change its rule.

    Args:
        fields: name of each field, and the rule as it resolves it alone.
        domain: the domain's rule.
    """
    return tuple(
        f"{name}: {field.bits} significant bits, and the domain has {domain.bits}: it keeps its own. Remedy: check how it was "
        "saved, or leave it out"
        for name, field in fields
        if domain.rule == "bit_depth" and is_outlier(field, domain)
    )


def is_outlier(field: Intensity, domain: Intensity) -> bool:
    """Whether a field's own bits are not those of its domain, and it keeps them."""
    return None not in (field.bits, domain.bits) and field.bits not in (
        domain.bits,
        (domain.bits or 0) - _DARK_BITS,
    )
