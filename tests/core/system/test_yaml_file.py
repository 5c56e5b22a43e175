"""YAML that people write, in any encoding, and YAML that means harm."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.core.system.yaml_file import read_yaml

TEXT = "name: Gefüge µm\nphases: [a, b]\n"


def written(folder: Path, content: bytes | str) -> Path:
    path = folder / "a.yaml"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "ascii"])
def test_any_unicode(tmp_path: Path, encoding: str) -> None:
    text = "name: x\nphases: [a, b]\n" if encoding == "ascii" else TEXT
    name = "x" if encoding == "ascii" else "Gefüge µm"
    assert read_yaml(written(tmp_path, text.encode(encoding))) == {"name": name, "phases": ["a", "b"]}


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "cp850"])
def test_a_code_page_is_refused_in_words(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(
        InputError, match=r"a\.yaml: is not UTF-8: byte 0x\w\w in line 1 belongs to a code page.*as UTF-8"
    ):
        read_yaml(written(tmp_path, TEXT.encode(encoding)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [1", "not valid YAML"),
        (b"\xff\xfe\x00", "no valid UTF-16"),
        ("a: 1\nb: 2\na: 3\n", "key 'a' is given twice, in lines 1 and 3"),
        ("a:\n  b: 1\n  b: 1\n", "key 'b' is given twice, in lines 2 and 3"),
        ("1: a\n1: b\n", "key 1 is given twice"),
        ("a: &x [*x]\n", "line 1 contains itself"),
        ("{a: 1, !!set b: 2}\n", "not valid YAML"),
        ("a:\n\t- b\n", "spaces, not with tabs"),
        ("a: {value: #0000ff}\n", 'a colour is written in quotes, "#0000ff"'),
        ("a: 2024-13-45\n", "not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        ("a: !!python/object/apply:os.system [ls]\n", "not valid YAML"),
        (b"a: " + b"x" * (5 << 20), "larger than 4 MiB"),
    ],
)
def test_what_cannot_be_used_names_file_and_reason(tmp_path: Path, content: bytes | str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        read_yaml(written(tmp_path, content))
    assert "a.yaml" in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"b\.yaml: cannot be read"):
        read_yaml(tmp_path / "b.yaml")


def test_aliases_are_fine_until_they_multiply(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "a: &x {k: 1}\nb: *x\nc: {<<: *x, k: 2}\n")) == {
        "a": {"k": 1},
        "b": {"k": 1},
        "c": {"k": 2},
    }
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    start = time.perf_counter()
    with pytest.raises(InputError, match=r"aliases stand for .* values"):
        read_yaml(written(tmp_path, laughs))
    assert time.perf_counter() - start < 5


def test_nothing_at_all(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "")) is None
    assert read_yaml(written(tmp_path, "# nothing\n")) is None
