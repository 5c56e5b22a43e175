"""File names in a report."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microseg.core.images.folders import readable
from microseg.deploy.report.names import distinct_path, extended, report_path, report_paths

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


@pytest.mark.parametrize(
    "name", ["CON.tif", "aux", "Com7.tif", "com\u00b9.png", "LPT\u00b2", "conin$.tif", "CONOUT$", "nul .tif", "prn"]
)
def test_devices_of_windows_get_another_name(name: str) -> None:
    safe = report_path(name)
    assert safe == f"%{ord(name[0]):02X}{name[1:]}"


def test_marks_of_direction_are_escaped() -> None:
    assert report_path("\u202egpj.tif") == "%E2%80%AEgpj.tif" and report_path("\x9b") == "%C2%9B"


E_COMPOSED, E_DECOMPOSED = "\u00e9.tif", "e\u0301.tif"


def test_names_that_some_systems_take_for_equal_do_not_collide() -> None:
    names = ["b.tif", "B.tif", E_COMPOSED, E_DECOMPOSED, "A/x.tif", "a/X.tif", "Field-A.TIF", "gefüge.tif"]
    places = report_paths(names)
    assert list(places) == names or set(places) == set(names)
    for name in ("b.tif", E_COMPOSED, "Field-A.TIF", "gefüge.tif"):
        assert places[name] == name, "the one in the common form, and names that are like no other one, stay"
    assert places["B.tif"] == distinct_path("B.tif") and places["B.tif"].startswith("B.tif~")
    assert places[E_DECOMPOSED] == distinct_path(E_DECOMPOSED)
    assert {places["A/x.tif"], places["a/X.tif"]} == {distinct_path("A/x.tif"), distinct_path("a/X.tif")}


@given(st.lists(st.text("aAbBßsS\u017fıiIİ\u00e9e\u0301/.", min_size=1), min_size=1, unique=True), st.randoms())
def test_paths_differ_for_every_file_system_and_depend_on_no_order(names: list[str], random: Random) -> None:
    names = [name for name in names if Path(name).as_posix() == name and ".." not in name]
    places = report_paths(names)
    for form in (str.casefold, str.upper, str.lower, lambda text: unicodedata.normalize("NFC", text)):
        assert len({form(place) for place in places.values()}) == len(names)
    random.shuffle(names)
    assert report_paths(names) == places
