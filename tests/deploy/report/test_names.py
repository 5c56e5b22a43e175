"""File names in a report."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microseg.core.images.folders import readable
from microseg.deploy.report.names import extended, report_path

NAMES = st.lists(st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1), min_size=1)


@pytest.mark.parametrize("name", ["a.tif", "sub/a b.png", "Gefüge 100 %.tif", "x.y.z.jpg", "100%zz.tif"])
def test_ordinary_names_stay(name: str) -> None:
    assert report_path(name) == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("new\nline.tif", "new%0Aline.tif"),
        ('a<b>:"|?*.tif', "a%3Cb%3E%3A%22%7C%3F%2A.tif"),
        ("back\\slash.tif", "back%5Cslash.tif"),
        ("sub./a.tif", "sub%2E/a.tif"),
        ("sub /a.tif", "sub%20/a.tif"),
        ("con.tif", "%63on.tif"),
        ("NUL", "%4EUL"),
        ("a%0Ab.tif", "a%250Ab.tif"),
    ],
)
def test_unsafe_names(name: str, safe: str) -> None:
    assert report_path(name) == safe


@settings(deadline=None)  # a loaded machine is no failure
@given(NAMES, NAMES)
def test_different_names_never_collide(first: list[str], second: list[str]) -> None:
    one, two = ("/".join(part for part in parts if part not in (".", "..")) for parts in (first, second))
    if one and two and Path(one) != Path(two):
        assert report_path(one) != report_path(two)


@given(NAMES)
def test_safe_on_windows(parts: list[str]) -> None:
    name = "/".join(part for part in parts if part not in (".", ".."))
    for part in report_path(name or "x").split("/"):
        assert not set(part) & set('<>:"\\|?*') and all(ord(c) > 31 for c in part)
        assert not part.endswith((" ", "."))
        assert len(part.encode()) <= 200


def test_bytes_that_are_no_utf8() -> None:
    assert readable("a\udcff.tif") == "a\\xff.tif"


def test_extended() -> None:
    assert extended(Path("/a/b"), "posix") == Path("/a/b")
    assert str(extended(Path("/a/b"), "nt")).startswith("\\\\?\\")
