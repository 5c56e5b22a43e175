"""Copies and overlaps are found whatever was done to the picture; unrelated fields are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.domains.fingerprint import copies
from microseg.core.domains.fingerprint.copies import Look, copies_among
from microseg.core.domains.fingerprint.field_source import FieldSource
from microseg.core.domains.fingerprint.thumbnails import CHANGES, variants
from microseg.core.schemas.fingerprint import FieldCopy
from tests.core.domains.fingerprint.samples import as_bytes, compressed, picture_of, structure

Picture = NDArray[np.uint8]


def found_among(pictures: Sequence[Picture], groups: str = "", tests: Sequence[int] = ()) -> list[FieldCopy]:
    sources = [
        FieldSource(f"f{place}", groups[place] if groups else f"f{place}", is_test=place in tests)
        for place in range(len(pictures))
    ]
    return copies_among([Look.at(source, picture) for source, picture in zip(sources, pictures, strict=True)])


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [picture_of(structure(seed), seed) for seed in range(5)]


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("none", lambda image: image.copy()),
        ("none", lambda image: as_bytes(0.6 * image.astype(np.float32) + 40)),
        ("none", lambda image: as_bytes(255 * (image / 255) ** 0.6)),
        ("none", lambda image: compressed(image, 30)),
        ("none", lambda image: cv2.resize(image, (190, 190), interpolation=cv2.INTER_AREA)),
        ("turned by 90 degrees", lambda image: np.rot90(image, -1).copy()),
        ("turned by 180 degrees", lambda image: image[::-1, ::-1].copy()),
        ("mirrored", lambda image: compressed(image[:, ::-1].copy(), 60)),
        ("mirrored, turned by 180 degrees", lambda image: image[::-1].copy()),
    ],
)
def test_copies(name: str, change: Callable[[Picture], Picture], pictures: list[Picture]) -> None:
    found = found_among([*pictures, change(pictures[2])])
    assert [(each.kind, each.first, each.second, each.change) for each in found] == [("copy", "f2", "f5", name)]
    assert found[0].score > 0.9 and found[0].shift_px == (0, 0) and found[0].is_across


def test_negatives_are_copies(pictures: list[Picture]) -> None:
    found = found_among([*pictures, 255 - pictures[0]])
    assert [(each.first, each.second, each.score < -0.9) for each in found] == [("f0", "f5", True)]


@pytest.mark.parametrize("variant", range(len(CHANGES)))
def test_the_change_turns_the_second_into_the_first(variant: int, pictures: list[Picture]) -> None:
    first = np.ascontiguousarray(variants(pictures[1].astype(np.float32))[variant]).astype(np.uint8)
    assert [each.change for each in found_among([first, pictures[1]])] == [CHANGES[variant]]


@pytest.mark.parametrize(("down", "right"), [(0, 160), (150, 0), (90, -110), (-100, -60)])
def test_overlaps(down: int, right: int) -> None:
    micrograph = picture_of(structure(7, 420, 420), 7)
    top, left = max(0, -down), max(0, -right)
    first = micrograph[top : top + 256, left : left + 256]
    second = micrograph[top + down : top + down + 256, left + right : left + right + 256]
    second = compressed(as_bytes(0.8 * second.astype(np.float32) + 20), 60)
    others = [picture_of(structure(seed), seed) for seed in range(3)]
    found = found_among([*others, first.copy(), second])
    assert [(each.kind, each.first, each.second) for each in found] == [("overlap", "f3", "f4")]
    assert np.abs(np.subtract(found[0].shift_px, (down, right))).max() <= 2 and found[0].score > 0.55


def test_a_crop_of_a_larger_field_overlaps_it() -> None:
    large = picture_of(structure(9, 500, 600), 9)
    found = found_among([large, large[100:356, 250:506].copy(), picture_of(structure(1), 1)])
    assert [(each.kind, each.first, each.second) for each in found] == [("overlap", "f0", "f1")]
    assert np.abs(np.subtract(found[0].shift_px, (100, 250))).max() <= 2


def test_unrelated_fields_are_no_copies_however_alike() -> None:
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:256, :256]

    def cuboids() -> Picture:
        """A nearly periodic structure whose lattice begins anywhere."""
        y, x = (place + 4 * cv2.GaussianBlur(rng.normal(size=(256, 256)).astype(np.float32), (0, 0), 6) * 10 +
                rng.uniform(0, 24) for place in (rows, columns))  # fmt: skip
        return picture_of(((y % 24 < 18) & (x % 24 < 18)).astype(np.uint8), int(rng.integers(1000)))

    def layered() -> Picture:
        """Layers at nearly the same height, with a scale bar at the same place."""
        middle = 120 + 3 * np.sin(columns / 30 + rng.uniform(0, 6))
        grains = cv2.GaussianBlur(rng.normal(size=(256, 256)).astype(np.float32), (0, 0), 3) * 120
        picture = as_bytes(picture_of((np.abs(rows - middle) < 40).astype(np.uint8)) + grains)
        picture[230:245, 180:245] = 255
        return picture

    assert found_among([cuboids() for _ in range(6)]) == []
    assert found_among([layered() for _ in range(6)]) == []


def test_groups_and_tests_decide_whether_a_copy_matters(pictures: list[Picture]) -> None:
    again = [pictures[0], pictures[1], pictures[0], pictures[1]]
    assert [each.is_across for each in found_among(again, "aabb")] == [True, True]
    assert [(each.first, each.is_across) for each in found_among(again, "abac")] == [("f1", True), ("f0", False)]
    assert [(each.first, each.is_across) for each in found_among(again, "abab", tests=[3])] == [
        ("f1", True),
        ("f0", False),
    ]


def test_of_many_copies_each_has_one_pair(pictures: list[Picture]) -> None:
    found = found_among([pictures[0]] * 5)
    assert sorted((each.first, each.second) for each in found) == [("f0", f"f{place}") for place in range(1, 5)]


@pytest.mark.parametrize(("block_fields", "block_points"), [(1, 10), (2, 300), (3, 1 << 20)])
def test_blocks_give_what_the_whole_gives(
    block_fields: int, block_points: int, pictures: list[Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = [*pictures, pictures[3][::-1].copy(), np.roll(pictures[1], (40, 60), (0, 1))]
    expected = found_among(fields)
    monkeypatch.setattr(copies, "_BLOCK_FIELDS", block_fields)
    monkeypatch.setattr(copies, "_BLOCK_POINTS", block_points)
    assert len(expected) == 2
    found = found_among(fields)
    assert [each.model_dump(exclude={"score"}) for each in found] == [
        each.model_dump(exclude={"score"}) for each in expected
    ]
    assert [each.score for each in found] == pytest.approx([each.score for each in expected], abs=1e-4)


def test_fields_without_structure_and_single_fields() -> None:
    flat = np.full((64, 80), 90, np.uint8)
    assert found_among([flat, flat + 1]) == [] == found_among([flat]) == found_among([])
