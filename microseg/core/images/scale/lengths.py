"""Lengths as microscopes write them: with decimal point or comma, and with units that a code page may have damaged."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_UM_PER = {
    "fm": 1e-9,
    "pm": 1e-6,
    "a": 1e-4,
    "å": 1e-4,
    "nm": 1e-3,
    "um": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "dm": 1e5,
    "m": 1e6,
    "km": 1e9,
    "in": 25400.0,
    "micron": 1.0,
    "angstrom": 1e-4,
    "ångström": 1e-4,
    "inch": 25400.0,
    "inche": 25400.0,
    "picometer": 1e-6,
    "nanometer": 1e-3,
    "micrometer": 1.0,
    "millimeter": 1e3,
    "centimeter": 1e4,
    "meter": 1e6,
}
_ESCAPE = re.compile(r"\\[ux]([0-9a-f]{4}|[0-9a-f]{2})", re.IGNORECASE)
_LENGTH = re.compile(r"([-+]?[\d.,]*\d[.,]?(?:e[-+]?\d+)?)\s*(.*)", re.IGNORECASE | re.DOTALL)
# Longer texts are no number with its unit.
_LONGEST = 100
# Characters that stand for one that a program could not write.
_REPLACEMENTS = "?\N{INVERTED QUESTION MARK}"
# The micro sign in UTF-8, read in a code page of one byte, has two characters; read twice so, four.
_MOST_DAMAGED = 4


@dataclass(frozen=True)
class Length:
    """A length in a text.

    Attributes:
        um: the length in micrometres.
        rounding: half a unit of its last digit, relative to the length.
    """

    um: float
    rounding: float


def um_per(unit: str) -> float | None:
    r"""Micrometres in a unit, from fm to km; None where the unit is no length.

    The micro sign is the only prefix outside ASCII, so any other character before `m` is a micro sign that a code page
    damaged: `\xc2\xb5m` in UTF-8 reads `Âµm` in Windows-1252, and `?m` is what a program writes that cannot write it.

    Args:
        unit: its name or sign: "nm", "µm", "\\u00B5m", "microns".
    """
    text = _ESCAPE.sub(lambda code: chr(int(code[1], 16)), unit.strip())
    if "&" in text:
        # Imported here: only XML and HTML escape so, and the module holds a large table.
        from html import unescape

        text = unescape(text)
    text = text.strip(" \t\"'[]().").lower()
    known = _UM_PER.get(text) or _UM_PER.get(text.removesuffix("s").replace("metre", "meter"))
    if known is not None:
        return known
    prefix = text[:-1]
    is_damaged = text.endswith("m") and 1 <= len(prefix) <= _MOST_DAMAGED
    if is_damaged and all(not char.isascii() or char in _REPLACEMENTS for char in prefix):
        return 1.0
    return None


def number(text: str) -> tuple[float, float] | None:
    """A number with decimal point or comma.

    Args:
        text: the number alone: "11,08", "2.77e-008", "1,024.5".

    Returns:
        The number, and half a unit of its last digit; None where the text is no finite number.
    """
    if len(text) > _LONGEST:
        return None
    mantissa, _, exponent = text.strip().lower().partition("e")
    point = max(mantissa.rfind("."), mantissa.rfind(","))
    whole, decimals = (mantissa, "") if point < 0 else (mantissa[:point], mantissa[point + 1 :])
    # What stands before the decimal sign groups thousands.
    whole = whole.replace(".", "").replace(",", "")
    try:
        value = float(f"{whole}.{decimals}e{exponent or 0}")
        last = float(f"1e{int(exponent or 0) - len(decimals)}")
    except ValueError:
        return None
    return (value, last / 2) if math.isfinite(value) else None


def length(text: str, unit: str | None = None) -> Length | None:
    """A positive length with its unit.

    Args:
        text: number and unit: "27.7 nm", "11,08 nm", "10µm".
        unit: the unit where the text names none; None: a length without unit is none.
    """
    text = text[: _LONGEST + 1].strip()
    if len(text) > _LONGEST or (found := _LENGTH.match(text)) is None or (value := number(found[1])) is None:
        return None
    factor = um_per(found[2] or unit or "")
    if factor is None or value[0] <= 0:
        return None
    return Length(value[0] * factor, value[1] / value[0])
