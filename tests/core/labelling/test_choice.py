from __future__ import annotations

import cv2
import numpy as np
import pytest

from microseg.core.labelling import choice
from microseg.core.labelling.choice import Candidate, LabelledFeatures, choose, thumbnail_of
from microseg.core.schemas.bag import Fingerprint
from tests.core.labelling.committees import picture


def candidate(name: str, *features: float, disagreement: float | None = 0.1, seed: int | None = None) -> Candidate:
    seed = sum(name.encode()) * 7 + len(name) if seed is None else seed
    return Candidate(name, disagreement, np.array([features] * 2, np.float32), thumbnail_of(picture(seed=seed)))


def names(candidates: list[Candidate], count: int, labelled: LabelledFeatures | None = None) -> list[str]:
    return [candidates[each.place].name for each in choose(candidates, count, labelled)[0]]


def at(*features: float, std: float = 0.1) -> LabelledFeatures:
    mean = np.array([features] * 2, np.float64)
    return LabelledFeatures(mean, np.full_like(mean, std))


# Four fields like the labelled ones, at 0, four of another etchant, around 10, and an outlier.
FIELDS = [
    *(candidate(f"known{n}", 0.1 * n, 0.0) for n in range(4)),
    *(candidate(f"new{n}", 10 + n, 1.1 * (n == 3)) for n in range(4)),
    candidate("outlier", 0.0, 25.0),
]


def test_a_typical_field_of_what_is_unlabelled_comes_first_and_the_next_is_another_kind() -> None:
    assert names(FIELDS, 2, at(0.0, 0.0)) == ["new1", "outlier"]


def test_every_choice_says_how_far_it_is_and_for_how_many_it_stands() -> None:
    first, second, third = choose(FIELDS, 3, at(0.0, 0.0))[0]
    # The known ones lie nearer to labelled fields; two of the four new ones lie nearest to the first choice.
    assert (first.represents, second.represents, third.represents) == (3, 1, 1)
    assert first.distance is not None and first.relative_distance is not None and second.distance is not None
    assert first.relative_distance > 1 and first.distance < second.distance
    known = choose(FIELDS[:4], 1, at(0.0, 0.0))[0][0]
    assert known.relative_distance == pytest.approx(1, abs=0.6)


def test_of_fields_that_are_equally_far_the_one_with_most_disagreement_comes_first() -> None:
    fields = [candidate(f"f{n}", *row, disagreement=share) for n, (row, share) in enumerate(
        (((1.0, 0.0), 0.05), ((0.0, 1.0), 0.2), ((-1.0, 0.0), 0.05), ((0.0, -1.0), 0.1))
    )]  # fmt: skip
    assert names(fields, 4, at(0.0, 0.0))[:2] == ["f1", "f3"]
    assert names(fields, 4)[0] == "f1"


def test_near_duplicates_are_left_out_and_named() -> None:
    fields = [candidate("a", 0.0, seed=1), candidate("copy of a", 0.05, seed=1), candidate("b", 3.0, seed=2)]
    order, duplicates = choose(fields, 3)
    assert len(order) == 2 and "b" in [fields[each.place].name for each in order]
    assert {fields[place].name for pair in duplicates for place in pair} == {"a", "copy of a"}


def test_equal_fields_and_one_network_still_give_as_many_as_asked() -> None:
    same = [candidate(f"s{n}", 1.0, disagreement=None) for n in range(5)]
    assert len(names(same, 3)) == 3 and len(set(names(same, 5))) == 5
    assert choose([], 3) == ([], []) and choose(same, 0) == ([], [])
    assert names(same[:1], 3, at(1.0)) == ["s0"]


def test_of_very_many_candidates_the_most_promising_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "MOST_COMPARED", 5)
    assert names(FIELDS, 9, at(0.0, 0.0)) == names(FIELDS[4:], 9, at(0.0, 0.0))


def test_the_units_of_a_fold_do_not_matter() -> None:
    """Axes of different folds are unrelated, and so are their scales."""
    scaled = [
        Candidate(each.name, each.disagreement, each.features * np.array([[1], [1000]], np.float32), each.thumbnail)
        for each in FIELDS
    ]
    known = LabelledFeatures(np.zeros((2, 2)), np.array([[0.1, 0.1], [100, 100]]))
    assert names(scaled, 4, known) == names(FIELDS, 4, at(0.0, 0.0))


def test_labelled_features_come_from_fingerprints() -> None:
    assert LabelledFeatures.of_fingerprints([]) is None
    found = LabelledFeatures.of_fingerprints([Fingerprint(fold=n, mean=[n, 1.0], std=[0.5, 0.0]) for n in range(2)])
    assert found is not None
    np.testing.assert_array_equal(found.mean, [[0, 1], [1, 1]])
    np.testing.assert_array_equal(found.std, [[0.5, 0], [0.5, 0]])


def test_a_copy_in_another_quality_is_a_near_duplicate_and_another_field_is_none() -> None:
    image = picture(300, 400, seed=3)
    shaded = np.clip(image * np.linspace(0.5, 1, 400), 0, 255).astype(np.uint8)
    packed = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 50])[1], cv2.IMREAD_GRAYSCALE)
    smaller = cv2.resize(image, (200, 150), interpolation=cv2.INTER_AREA)
    for copy in (shaded, packed, smaller, 40 + image // 2):
        assert thumbnail_of(np.asarray(copy, np.uint8)) @ thumbnail_of(image) > choice.NEAR_DUPLICATE
    # Other fields, of which the same detector shades one side.
    ramp = np.linspace(0.3, 1, 400)
    others = [np.rint(picture(300, 400, seed=seed) * ramp).astype(np.uint8) for seed in (4, 5)]
    assert abs(thumbnail_of(others[0]) @ thumbnail_of(others[1])) < 0.3
    assert not thumbnail_of(np.full((50, 50), 7, np.uint8)).any()
