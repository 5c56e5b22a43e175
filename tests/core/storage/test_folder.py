"""A folder as a place of results: files are whole or absent, and of two that create one, one does."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.core.storage.folder import Folder


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    place = Folder(tmp_path / "out")
    assert place.is_empty() and place.names("fields") == [] and place.read("a") is None
    place.write("fields/b", b"1")
    place.write("fields/b", b"2")
    assert place.create("fields/a", b"3") and not place.create("fields/a", b"4")
    assert place.names("fields") == ["fields/a", "fields/b"] and place.read("fields/b") == b"2"
    with place.open("fields/a") as stream:
        assert stream.read() == b"3"
    place.remove("fields/a")
    place.remove("fields/a")
    with place.temporary() as path:
        path.write_bytes(b"half")
    assert place.names("fields") == ["fields/b"] and place.names("tmp") == [] and not place.is_empty()


def test_what_killed_processes_left_is_removed(tmp_path: Path) -> None:
    place = Folder(tmp_path)
    with place.temporary() as path:
        host = path.name.partition(".")[0]
        mine, dead, old, other = (
            path.with_name(name) for name in (path.name, f"{host}.4194304-ab", "x.1-ab", "y.1-ab")
        )
        for each in (mine, dead, old, other):
            each.write_bytes(b"")
        os.utime(old, (1, 1))
        place.require_writable()
        assert {each.name for each in path.parent.iterdir()} == {mine.name, other.name}


def test_a_place_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="is a file"):
        Folder(tmp_path / "file").read("archive.json")
