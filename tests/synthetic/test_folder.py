"""Domain folders: what `load_domain` and the metadata readers make of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from microseg.cli.look.synth import synth
from microseg.core.domains.domain import load_domain, native_labels
from microseg.core.errors import InputError
from microseg.core.images.micrograph import open_micrograph
from microseg.synthetic.appearance import DOMAINS
from microseg.synthetic.field import synthesise_field
from microseg.synthetic.folder import field_fraction, field_seed, write_domain

SMALL_UM = (8.0, 6.0)


@pytest.mark.parametrize("domain", DOMAINS)
def test_domain_loads(tmp_path: Path, domain: str) -> None:
    images = write_domain(tmp_path / "out", domain, 2, 7, field_um=SMALL_UM)
    loaded = load_domain(tmp_path / "out")
    assert loaded.name == f"synthetic-{domain}"
    assert [phase.name for phase in loaded.phases] == ["ferrite", "lath-bainite"]
    assert [field.image for field in loaded.fields] == images
    assert len({field.group for field in loaded.fields}) == 2
    assert loaded.preparation.pixel_size_um == DOMAINS[domain].pixel_size_um
    assert loaded.preparation.invert == (domain == "t3")
    expected = synthesise_field(domain, field_seed(7, 0), field_um=SMALL_UM, fraction=field_fraction(0.53, 0))
    assert np.array_equal(tifffile.imread(images[0]), expected.image)
    assert np.array_equal(native_labels(loaded.fields[0], loaded), expected.labels)


@pytest.mark.parametrize("domain", DOMAINS)
def test_pixel_size_is_in_the_file(tmp_path: Path, domain: str) -> None:
    image = write_domain(tmp_path / "out", domain, 1, 0, field_um=SMALL_UM)[0]
    with open_micrograph(image) as micrograph:
        stated = micrograph.pixel_size
    assert stated is not None
    assert stated.width_um == pytest.approx(DOMAINS[domain].pixel_size_um, rel=1e-4)


@pytest.mark.parametrize("mean", [0.0, 0.05, 0.29, 0.53, 1.0])
def test_mean_fraction_over_fields(mean: float) -> None:
    fractions = [field_fraction(mean, index) for index in range(20)]
    assert np.mean(fractions) == pytest.approx(mean, abs=0.01)
    assert min(fractions) >= 0
    assert max(fractions) <= 1
    assert (np.std(fractions) > 0.01) == (0 < mean < 1)


def test_more_fields_begin_with_the_same(tmp_path: Path) -> None:
    few = write_domain(tmp_path / "few", "t3", 1, 5, field_um=SMALL_UM)
    many = write_domain(tmp_path / "many", "t3", 2, 5, field_um=SMALL_UM)
    assert few[0].read_bytes() == many[0].read_bytes()


def test_goes_on_where_it_stopped(tmp_path: Path) -> None:
    images = write_domain(tmp_path, "t3", 2, 5, field_um=SMALL_UM)
    content = images[1].read_bytes()
    kept = images[0].stat().st_mtime_ns
    images[1].unlink()
    (tmp_path / "domain.yaml").unlink()
    assert write_domain(tmp_path, "t3", 2, 5, field_um=SMALL_UM) == images
    assert images[1].read_bytes() == content
    assert images[0].stat().st_mtime_ns == kept
    assert (tmp_path / "domain.yaml").is_file()


def test_never_mixes_settings_or_strangers(tmp_path: Path) -> None:
    write_domain(tmp_path / "ours", "t3", 1, 5, field_um=SMALL_UM)
    with pytest.raises(InputError, match="other settings"):
        write_domain(tmp_path / "ours", "t3", 1, 6, field_um=SMALL_UM)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        write_domain(tmp_path / "theirs", "s", 1, 5, field_um=SMALL_UM)
    with pytest.raises(InputError, match="is a file"):
        write_domain(tmp_path / "theirs" / "notes.txt", "s", 1, 5, field_um=SMALL_UM)


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    synth(tmp_path / "out", domain="T3", fields=1, size="80x60", seed=2)
    assert "microseg check" in capsys.readouterr().out
    assert tifffile.imread(next((tmp_path / "out" / "images").iterdir())).shape == (60, 80)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "80", "field_um": "20"}, "give one"),
        ({"size": "80.5"}, "--size"),
        ({"field_um": "20xwide"}, "--field-um"),
        ({"field_um": "axbxc"}, "--field-um"),
        ({"fields": 0}, "--fields"),
        ({"seed": -1}, "--seed"),
        ({"fraction": -0.1}, "fraction"),
    ],
)
def test_bad_options_write_nothing(tmp_path: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        synth(tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()
