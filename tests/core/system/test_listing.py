"""What a folder holds: links are what they lead to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from microseg.core.system.listing import Entry, entries_of


@pytest.mark.skipif(os.name != "posix", reason="links and pipes of POSIX")
def test_entries(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, target in (("to-file", "file"), ("to-folder", "folder"), ("nowhere", "none"), ("circle", "circle")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "to-pipe").symlink_to("pipe")
    assert {entry.name: entry[1:] for entry in entries_of(tmp_path)} == {
        "file": (False, True, False),
        "folder": (True, False, False),
        "pipe": (False, False, False),
        "to-file": (False, True, False),
        "to-folder": (True, False, False),
        "nowhere": (False, False, True),
        "circle": (False, False, True),
        "to-pipe": (False, False, False),
    }
    assert Entry("a", True, False, False) in entries_of(_with_folder(tmp_path / "folder"))
    with pytest.raises(OSError, match="none"):
        entries_of(tmp_path / "none")


def _with_folder(folder: Path) -> Path:
    (folder / "a").mkdir()
    return folder
