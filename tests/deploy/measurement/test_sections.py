"""Sections by folder, by a pattern, and by a table."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.deploy.measurement.sections import sections_of

NAMES = ["a_1.tif", "lot 2/b_1.tif", "lot 2/b_2.tif"]


def test_the_folder_is_the_section_and_the_top_has_the_inputs_name() -> None:
    assert sections_of(NAMES, "wafer") == {"a_1.tif": "wafer", "lot 2/b_1.tif": "lot 2", "lot 2/b_2.tif": "lot 2"}
    assert sections_of(["a.tif", "wafer/a.tif"], "wafer") == {"a.tif": ".", "wafer/a.tif": "wafer"}


def test_a_pattern_is_searched_in_the_path_without_suffix() -> None:
    assert sections_of(NAMES, "wafer", r"([ab])_\d$") == {"a_1.tif": "a", "lot 2/b_1.tif": "b", "lot 2/b_2.tif": "b"}


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("(", "is no regular expression"),
        ("a", "has 0 groups"),
        ("(a)(_)", "has 2 groups"),
        (r"(a)_", r"gives no section to lot 2/b_1\.tif, lot 2/b_2\.tif\."),
    ],
)
def test_a_pattern_that_cannot_be_used(rule: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        sections_of(NAMES, "wafer", rule)


def test_a_table_names_fields_by_path_name_or_stem(tmp_path: Path) -> None:
    table = tmp_path / "sections.csv"
    table.write_text("\ufefffield;note;section\na_1;;top\nlot 2/b_1.tif;x;low\nb_2.tif;;low\n", encoding="utf-8")
    found = sections_of(NAMES, "wafer", str(table))
    assert found == {"a_1.tif": "top", "lot 2/b_1.tif": "low", "lot 2/b_2.tif": "low"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("field,section\na_1,x\n", "gives no section to lot 2/b_1.tif, lot 2/b_2.tif"),
        ("field,section\na_1,\n", "line 2 has no section"),
        ("field,section\na_1,x\na_1,y\n", "is in the sections 'x' and 'y'"),
        ("name,section\na_1,x\n", "has no column 'field'"),
        ("field,section\n", "holds no row"),
        ("", "has no column 'field'"),
        ("field,section\n\xff,x\n", "is no table in UTF-8"),
    ],
)
def test_a_table_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    table = tmp_path / "sections.csv"
    table.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=message):
        sections_of(NAMES, "wafer", str(table))


def test_a_table_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        sections_of(NAMES, "wafer", str(tmp_path / "no.csv"))
