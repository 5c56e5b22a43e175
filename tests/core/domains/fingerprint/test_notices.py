"""What the fingerprint makes `check` say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from microseg.core.domains.fingerprint.field_source import FieldSource
from microseg.core.domains.fingerprint.fingerprint import fingerprint_of_fields
from microseg.core.domains.fingerprint.notices import fingerprint_notices
from microseg.core.schemas.fingerprint import DatasetFingerprint, FieldCopy, ShiftedMask, SuspectedGroups
from tests.core.domains.fingerprint.samples import picture_of, structure


def fingerprint(*shares: float, fields: int = 2, **changes: Any) -> DatasetFingerprint:
    """Of phases with these shares, in `fields` fields."""
    made = []
    for number in range(fields):
        labels = np.repeat(np.arange(len(shares), dtype=np.uint8), [round(3200 * share) for share in shares])
        made.append(
            (FieldSource(f"f{number}", f"g{number}"), picture_of(structure(number, 32, 100)), labels.reshape(32, 100))
        )
    names = [f"p{place}" for place in range(len(shares))]
    return fingerprint_of_fields(made, names, groups_stated=True).model_copy(update={"copies": [], **changes})


def pair(kind: str, group: str, **changes: Any) -> FieldCopy:
    values = {
        "kind": kind,
        "first": "a.tif",
        "second": "b.tif",
        "first_group": "a",
        "second_group": group,
        "score": 0.9,
    }
    return FieldCopy(**({"is_across": group != "a", "change": "none", "shift_px": (0, 0)} | values | changes))


def test_nothing_to_say() -> None:
    assert fingerprint_notices(fingerprint(0.5, 0.5)) == ()


def test_copies_and_overlaps() -> None:
    pairs = [
        pair("copy", "b", change="mirrored", score=-0.9),
        pair("overlap", "b", shift_px=(5, -80)),
        pair("copy", "a"),
    ]
    first, second, third = fingerprint_notices(fingerprint(0.5, 0.5, copies=pairs))
    assert (
        "1 pair of fields of different groups show the same picture: a.tif and b.tif (mirrored; dark and bright"
        in first
    )
    assert (
        "too good" in first
        and "share a part of their pictures: a.tif and b.tif (moved by 5 px down, -80 px right)" in second
    )
    assert third.startswith(
        "1 pair of fields of one group show the same picture: a.tif and b.tif. They are never held out"
    )


def test_shifted_masks() -> None:
    shifted = [ShiftedMask(field=f"{n}.tif", dy_px=3, dx_px=-4, edges_here=1, edges_moved=2) for n in range(7)]
    (text,) = fingerprint_notices(fingerprint(0.5, 0.5, shifted_masks=shifted))
    assert "the labels of 7 fields fit the picture clearly better" in text
    assert "0.tif (labels 3 px down, -4 px right), 1.tif" in text and "and 2 more" in text
    (text,) = fingerprint_notices(fingerprint(0.5, 0.5, shifted_masks=shifted[:1]))
    assert text.startswith("the labels of 1 field fit the picture")


def test_groups() -> None:
    (text,) = fingerprint_notices(
        fingerprint(0.5, 0.5, groups_stated=False, suspected_groups=SuspectedGroups(rule="^(spot[0-9]+)", groups=3))
    )
    assert "the names suggest 3 specimens" in text and text.endswith("groups: '^(spot[0-9]+)'")


@pytest.mark.parametrize("rare", [0.001, 0.009])
def test_rare_phases(rare: float) -> None:
    (text,) = fingerprint_notices(fingerprint(1 - rare, rare))
    assert f"less than 1 % of the labelled area: p1 ({100 * round(3200 * rare) / 3200:.2g} %)" in text


def test_a_phase_in_one_field_and_one_phase_alone() -> None:
    found = fingerprint(0.5, 0.5)
    alone = found.phases[1].model_copy(update={"fields": 1})
    (text,) = fingerprint_notices(found.model_copy(update={"phases": [found.phases[0], alone], "groups": 1}))
    assert text.startswith("in one field only: 'p1'")
    (text,) = fingerprint_notices(fingerprint(1.0))
    assert text.startswith("all labelled pixels are 'p0'")
