"""`pixel_sizes` of a domain.yaml."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest

from microseg.core.domains.domain import load_domain
from microseg.core.domains.pixel_sizes import open_field, sizes_of_fields
from microseg.core.errors import InputError
from microseg.core.schemas.preparation import Grid
from tests.core.samples import halves, write_domain

YAML = Path("domain.yaml")


def test_names_stems_and_paths() -> None:
    names = ["lot/a.tif", "lot/b.png", "other/a.tif", "c.tif"]
    stated = {"a": 0.1, "b.png": 0.2, "other/a.tif": 0.3}
    assert sizes_of_fields(stated, names, YAML) == {"lot/a.tif": 0.1, "lot/b.png": 0.2, "other/a.tif": 0.3}
    assert sizes_of_fields({"lot/a": 0.4}, names, YAML) == {"lot/a.tif": 0.4}
    assert sizes_of_fields({"lot/a": 0.4, "a.tif": 0.5}, names[:1], YAML) == {"lot/a.tif": 0.4}
    assert sizes_of_fields({"lot/a.tif": 0.4}, ["images/lot/a.tif"], YAML) == {"images/lot/a.tif": 0.4}


def test_an_unknown_name_is_named() -> None:
    with pytest.raises(InputError, match=r"domain\.yaml: pixel_sizes: no image has the name 'b', 'd\.tif'\. Remedy"):
        sizes_of_fields({"b": 0.1, "d.tif": 0.1, "a": 0.1}, ["a.tif"], YAML)


def test_accents_of_any_system() -> None:
    stated = {unicodedata.normalize("NFC", "Gefüge"): 0.1}
    name = unicodedata.normalize("NFD", "Gefüge.tif")
    assert sizes_of_fields(stated, [name], YAML) == {name: 0.1}


def test_sizes_of_a_domain(tmp_path: Path) -> None:
    described = {"phases": [{"name": "a"}, {"name": "b"}], "pixel_size_um": 0.1, "pixel_sizes": {"f2": 0.2}}
    domain = load_domain(write_domain(tmp_path, {"f1": halves(), "f2": halves()}, described))
    assert [field.pixel_size_um for field in domain.fields] == [None, 0.2]
    for field, shape, source in zip(domain.fields, ((16, 20), (32, 40)), ("domain.yaml", "domain.yaml"), strict=True):
        with open_field(field, domain.preparation, Grid(pixel_size_um=0.2)) as prepared:
            assert prepared.shape == shape
            assert prepared.pixel_size is not None and prepared.pixel_size.source == source


@pytest.mark.parametrize(
    ("stated", "told"), [({"f3": 0.1}, "no image has the name 'f3'"), ({"f1": 0}, "pixel_sizes.f1 = 0")]
)
def test_a_domain_with_wrong_sizes(tmp_path: Path, stated: dict[str, float], told: str) -> None:
    folder = write_domain(tmp_path, {"f1": halves()}, {"pixel_sizes": stated})
    with pytest.raises(InputError, match=told):
        load_domain(folder)
