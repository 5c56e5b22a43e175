"""Texts from outside, such as names of files, made harmless where a person reads them."""

from __future__ import annotations

import re

# C0 and C1, the marks of direction (Unicode bidirectional algorithm, UAX 9), and separators of lines.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_CONTROLS = re.compile(f"[{_CONTROL}]")
_NAME_CONTROLS = re.compile(f"[\t\n{_CONTROL}]")


def plain(text: str) -> str:
    """A text as one that a terminal shows and does not obey: control characters become escapes as in `\\x1b`.

    Line ends stay. Marks that turn the direction of writing make a name look like another one, so they are escaped too.

    Args:
        text: a message.
    """
    return _CONTROLS.sub(lambda found: _escape(found[0]), text)


def plain_name(name: str) -> str:
    """`plain` for a name: line ends and tabs are escaped as well, so that it stays on its line."""
    return _NAME_CONTROLS.sub(lambda found: _escape(found[0]), name)


def _escape(character: str) -> str:
    return repr(character)[1:-1]
