"""Notices of fields, once for all fields that they are said of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import zip_longest

from microseg.deploy.report.summary_file import FieldNotice

# Names of fields that a notice lists.
LISTED = 5
# Of notices in records of an earlier version.
_KIND_UNKNOWN = "field"


def grouped_notices(fields: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> list[FieldNotice]:
    """Notices of fields by kind and text, in the order in which they first occur.

    Args:
        fields: name, notices and their kinds of each field.
    """
    return counted_notices(
        (zip_longest(kinds, texts, fillvalue=_KIND_UNKNOWN), [(index, name)], 1)
        for index, (name, texts, kinds) in enumerate(fields)
    )


def counted_notices(
    groups: Iterable[tuple[Iterable[tuple[str, str]], Sequence[tuple[int, str]], int]],
) -> list[FieldNotice]:
    """As `grouped_notices`, of groups of fields that have the same notices.

    Args:
        groups: kinds and texts, numbers and names of the first fields that have them, and how many fields have them; by the
            number of the first field.
    """
    found: dict[str, dict[str, tuple[list[tuple[int, str]], list[int]]]] = defaultdict(dict)
    for notices, first, number in groups:
        for kind, text in notices:
            names, count = found[kind].setdefault(text, ([], [0]))
            count[0] += number
            if len(names) < LISTED or first[0] < names[-1]:
                names[:] = sorted([*names, *first])[:LISTED]
    return [
        FieldNotice(kind=kind, text=text, count=count[0], fields=[name for _, name in names])
        for kind, texts in found.items()
        for text, (names, count) in texts.items()
    ]
