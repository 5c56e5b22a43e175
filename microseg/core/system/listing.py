"""What a folder holds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """A name in a folder. A link is what it leads to; one that leads nowhere, or in a circle, is neither file nor folder.

    Attributes:
        name: the name.
        is_folder: whether it is a folder.
        is_file: whether it is a regular file.
        is_broken: whether it is a link that leads nowhere.
    """

    name: str
    is_folder: bool
    is_file: bool
    is_broken: bool


def entries_of(folder: Path) -> list[Entry]:
    """The entries of a folder, in no order. Raises OSError where it cannot be listed."""
    with os.scandir(folder) as found:
        return [_entry(each) for each in found]


def _entry(found: os.DirEntry[str]) -> Entry:
    try:
        is_folder, is_file = found.is_dir(), found.is_file()
        is_broken = not is_folder and not is_file and found.is_symlink() and not Path(found.path).exists()
    except OSError:  # a circle of links
        return Entry(found.name, is_folder=False, is_file=False, is_broken=True)
    return Entry(found.name, is_folder, is_file, is_broken)
