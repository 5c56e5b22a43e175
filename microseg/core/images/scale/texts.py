"""Texts of microscopes: in any code page, as `key = value` lines with or without sections."""

from __future__ import annotations

import codecs
from collections.abc import Mapping

# A header of a micrograph has some kilobytes. More is something else, and is not decoded.
MOST_BYTES = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)

Sections = Mapping[str, Mapping[str, str]]


def decoded(data: bytes) -> str:
    """A text of unknown encoding: UTF-16 or UTF-8 with or without byte order mark, else the Western European code page.

    Keys and numbers are ASCII in every code page of one byte; `um_per` reads units that the wrong one damages.

    Args:
        data: the bytes.
    """
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    head = data[:400]
    for start, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        # ASCII in UTF-16: every other byte is zero, and only these.
        if len(head) >= 8 and not any(head[start::2]) and all(head[1 - start :: 2]):
            return data.decode(encoding, "replace")
    try:
        return data.decode("utf-8").replace("\0", "")
    except UnicodeDecodeError:
        return data.decode("latin-1").replace("\0", "")


def sections(text: str) -> Sections:
    """The `key = value` lines of a text by section, both in lower case; the first of equal keys counts.

    Args:
        text: an INI text. Lines before the first section belong to the section "".
    """
    found: dict[str, dict[str, str]] = {"": {}}
    name = ""
    for line in text.splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            name = line[1:-1].strip().lower()
            found.setdefault(name, {})
        elif "=" in line:
            key, _, value = line.partition("=")
            found[name].setdefault(key.strip().lower(), value.strip())
    return found


def whole_number(text: str | None) -> int | None:
    """A positive whole number, or None."""
    digits = (text or "").strip()
    return int(digits) or None if digits.isascii() and digits.isdigit() and len(digits) < 10 else None
