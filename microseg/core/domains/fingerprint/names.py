"""What the names of fields suggest as specimens."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from microseg.core.domains.pairing import BY_FOLDER
from microseg.core.schemas.fingerprint import SuspectedGroups

_PARTS = re.compile(r"[0-9]+|[^\W\d_]+|[\W_]+")
_NUMBER, _WORD, _ANY_WORD = "[0-9]+", "[A-Za-z]+", r"[^\W\d_]+"
# Folders of these names split data for training, and say nothing about specimens.
_SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing", "images"}
# Groups of fewer fields on average are no specimens.
_FIELDS_OF_A_GROUP = 1.5


def suspected_groups(names: Sequence[str]) -> SuspectedGroups | None:
    """A value of `groups` that the names suggest: folders, or the shortest beginning that tells several sorts apart.

    Args:
        names: names of the fields, `/` between folders.

    Returns:
        The suggestion; None where nothing suggests any.
    """
    paths = [PurePosixPath(name) for name in names]
    folders = {path.parent.as_posix() for path in paths}
    if _are_groups(len(folders), len(names)) and not {PurePosixPath(each).name.lower() for each in folders} <= _SPLITS:
        return SuspectedGroups(rule=BY_FOLDER, groups=len(folders))
    parts = [_PARTS.findall(path.stem) for path in paths]
    for length in range(1, max(map(len, parts), default=0)):
        heads = {"".join(each[:length]) for each in parts}
        if len(heads) < 2:
            continue
        rule = _rule([each[:length] for each in parts])
        if rule is None or not _are_groups(len(heads), len(names)):
            return None
        # The rule must give these groups: a number or word may go on behind the part.
        matches = [re.search(rule, path.stem) for path in paths]
        found = Counter(match[1] for match in matches if match)
        return SuspectedGroups(rule=rule, groups=len(heads)) if found.keys() == heads and None not in matches else None
    return None


def _are_groups(groups: int, fields: int) -> bool:
    return groups >= 2 and fields >= _FIELDS_OF_A_GROUP * groups


def _rule(heads: Sequence[Sequence[str]]) -> str | None:
    """A regular expression for beginnings of one form; None where their forms differ."""
    if len({len(head) for head in heads}) != 1:
        return None
    pattern = ""
    for column in zip(*heads, strict=True):
        if len(set(column)) == 1:
            pattern += re.escape(column[0])
        elif all(part.isdecimal() and part.isascii() for part in column):
            pattern += _NUMBER
        elif all(part.isalpha() for part in column):
            pattern += _WORD if all(part.isascii() for part in column) else _ANY_WORD
        else:
            return None
    return f"^({pattern})"
