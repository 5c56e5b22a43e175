"""Files are complete or absent."""

from __future__ import annotations

import errno
import hashlib
import os
from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.core.system.files import replacing, sha256_of, write_json, write_text, write_together, write_yaml, writing
from microseg.core.system.yaml_file import read_yaml


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "a.txt"
    write_text(path, "old\n")

    def half() -> None:
        with replacing(path) as part:
            part.write_text("ne", encoding="utf-8")
            raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        half()
    assert path.read_bytes() == b"old\n"
    assert list(path.parent.iterdir()) == [path]
    write_text(path, "new ü\n")
    assert path.read_bytes() == "new ü\n".encode()


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def full() -> None:
        with replacing(path):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: '.*a\.txt'"):
        full()
    with pytest.raises(InputError, match=r"a\.txt: the disk is full"), writing(tmp_path):
        full()
    assert not list(tmp_path.iterdir())


def test_files_that_belong_together_are_all_written_or_none(tmp_path: Path) -> None:
    one, two, three = files = [tmp_path / name for name in ("1", "2", "3")]
    write_together(dict.fromkeys(files, "old\n"))
    two.unlink()
    two.mkdir()
    with pytest.raises(OSError, match="2"):
        write_together(dict.fromkeys(files, "new\n"))
    with pytest.raises(UnicodeEncodeError):
        write_together({one: "newer\n", three: "\ud800"})
    assert (one.read_text(), three.read_text()) == ("old\n", "old\n")
    assert sorted(tmp_path.iterdir()) == files


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"miou": float("nan")})
    assert not list(tmp_path.iterdir())


def test_yaml_keeps_order_and_umlauts(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    write_yaml(path, {"b": "Gefüge", "a": [1, 2]})
    assert path.read_text(encoding="utf-8").startswith("b: Gefüge")
    assert read_yaml(path) == {"b": "Gefüge", "a": [1, 2]}


def test_hash_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"micrograph" * 1000)
    assert sha256_of(path) == hashlib.sha256(b"micrograph" * 1000).hexdigest()
