"""The fingerprint of a domain, against what its fields are made of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from microseg.core.domains.domain import load_domain
from microseg.core.domains.fingerprint.field_source import FieldSource
from microseg.core.domains.fingerprint.fingerprint import fingerprint_of_domain, fingerprint_of_fields
from microseg.core.errors import InputError
from microseg.core.schemas.fingerprint import DatasetFingerprint
from tests.core.samples import write_domain

PHASES = ["matrix", "carbide", "pore"]


def test_phases_sizes_and_grey_values(tmp_path: Path) -> None:
    mask = np.zeros((32, 40), np.uint8)
    mask[4:8, 4:14] = mask[20:24, 4:14] = 1
    mask[10:16, 20:26] = 2
    masks = {"s1_0": mask, "s1_1": np.where(mask == 2, 0, mask), "s2_0": np.where(mask == 2, 255, 0)[:20]}
    folder = write_domain(tmp_path / "d", {name: each.astype(np.uint8) for name, each in masks.items()}, {
        "phases": PHASES, "unlabelled": 255, "groups": "^(s[0-9]+)", "pixel_sizes": {"s1_0": 0.5, "s2_0": 2.0}
    })  # fmt: skip
    Image.fromarray((100 + 50 * (mask == 2)).astype(np.uint8)).save(folder / "images" / "s1_0.png")
    (folder / "images" / "s1_0.tif").unlink()
    found = fingerprint_of_domain(load_domain(folder))
    assert (found.fields, found.groups, found.groups_stated, found.test_fields) == (3, 2, True, 0)
    assert (found.height_px.smallest, found.height_px.median, found.width_px.largest) == (20, 32, 40)
    assert found.pixel_size_um is not None
    assert (found.pixel_size_um.smallest, found.pixel_size_um.median) == (0.5, 1.25)
    matrix, carbide, pore = found.phases
    total = 32 * 40 * 2 + 20 * 40
    assert found.labelled_px == total - 36 == matrix.labelled_px + carbide.labelled_px + pore.labelled_px
    assert found.unlabelled_share == pytest.approx(36 / total)
    assert (carbide.labelled_px, carbide.regions, carbide.fields, carbide.groups) == (160, 4, 2, 1)
    assert carbide.area_share == 160 / (total - 36)
    # Two bars of 10 x 4 px: 4 rows of 10 px and 10 columns of 4 px each.
    assert carbide.chord_px == pytest.approx((4 * 10 + 10 * 4) / 14)
    assert carbide.chord_std_px == pytest.approx(np.std([10] * 4 + [4] * 10))
    assert carbide.chord_um == pytest.approx(0.5 * 80 / 14)
    assert (pore.labelled_px, pore.regions, pore.fields, pore.groups) == (36, 1, 1, 1)
    assert (pore.chord_px, pore.chord_std_px, pore.grey_mean, pore.grey_std) == (6, 0, 150, 0)
    assert matrix.regions == 3 and found.suspected_groups is None
    assert 0 <= found.grey_low < found.grey_mean < found.grey_high <= 255
    assert DatasetFingerprint.parsed(found.model_dump_json(), "f", "the fingerprint", "none") == found


def test_intercepts_that_the_border_cuts_count_where_no_others_exist() -> None:
    labels = np.repeat(np.array([0, 1], np.uint8), 16)[:, None].repeat(20, 1)
    image = np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8)
    found = fingerprint_of_fields([(FieldSource("a", "a"), image, labels)], ["up", "down"], groups_stated=False)
    assert found.phases[0].chord_px == pytest.approx((16 * 20 + 20 * 16) / 36)
    assert found.phases[0].chord_um is None and found.pixel_size_um is None


def test_fields_for_a_test_do_not_count() -> None:
    labels = np.repeat(np.array([0, 1], np.uint8), 16)[:, None].repeat(20, 1)
    image = np.random.default_rng(0).integers(0, 255, labels.shape, np.uint8)
    fields = [
        (FieldSource("s1_a", "s1_a"), image, labels),
        (FieldSource("s2_a", "s2_a", is_test=True), np.zeros_like(image), np.zeros_like(labels)),
    ]
    found = fingerprint_of_fields(fields, ["up", "down", "none"], groups_stated=False)
    assert (found.fields, found.test_fields) == (1, 1)
    assert found.grey_mean == pytest.approx(image.mean())
    assert [phase.area_share for phase in found.phases] == [0.5, 0.5, 0]
    none = found.phases[2]
    assert (none.chord_px, none.regions, none.fields, none.grey_mean) == (None, 0, 0, None)
    assert json.loads(found.model_dump_json())["fingerprint_version"] == 1


def test_specimens_that_the_names_suggest_are_proposed_where_none_are_stated(tmp_path: Path) -> None:
    masks = {f"spot{spot}_{tile}": np.eye(20, dtype=np.uint8) for spot in (1, 2) for tile in (1, 2)}
    found = fingerprint_of_domain(load_domain(write_domain(tmp_path / "d", masks, {"phases": PHASES[:2]})))
    assert found.suspected_groups is not None
    assert (found.suspected_groups.rule, found.suspected_groups.groups) == ("^(spot[0-9]+)", 2)


def test_a_domain_without_labels_has_no_fingerprint(tmp_path: Path) -> None:
    Image.fromarray(np.arange(400, dtype=np.uint8).reshape(20, 20) % 251).save(tmp_path / "a.png")
    with pytest.raises(InputError, match="no labelled training field"):
        fingerprint_of_domain(load_domain(tmp_path))
