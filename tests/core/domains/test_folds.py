"""Folds by group."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microseg.core.domains.folds import assign_folds, held_out_by, planned_split, split_notices
from microseg.core.errors import InputError


@given(groups=st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=60), folds=st.integers(2, 6))
def test_groups_are_never_split_and_folds_are_balanced(groups: list[str], folds: int) -> None:
    sizes = Counter(groups)
    if len(sizes) < folds:
        with pytest.raises(InputError, match=f"cannot be split into {folds} folds"):
            assign_folds(groups, folds)
        return
    assigned = assign_folds(groups, folds)
    assert all(
        len({fold for fold, group in zip(assigned, groups, strict=True) if group == name}) == 1 for name in sizes
    )
    loads = Counter(assigned)
    assert set(loads) == set(range(folds))
    assert max(loads.values()) - min(loads.values()) <= max(sizes.values())
    assert assigned == assign_folds(groups, folds)


def test_the_order_of_fields_does_not_matter() -> None:
    groups = ["a", "a", "b", "c", "c", "c", "d", "e"]
    there = dict(zip(groups, assign_folds(groups, 3), strict=True))
    assert there == dict(zip(groups[::-1], assign_folds(groups[::-1], 3), strict=True))


def test_too_few_groups_name_the_remedy() -> None:
    with pytest.raises(InputError, match=r"3 groups of fields \(a, b, c\).*--folds 3, or `groups`"):
        assign_folds(["a", "b", "c", "c"], 5)
    with pytest.raises(InputError, match=r"1 group of fields \(a\)") as caught:
        assign_folds(["a", "a"], 2)
    assert "--folds" not in str(caught.value)
    with pytest.raises(InputError, match="at least 2"):
        assign_folds(["a", "b"], 1)


@pytest.mark.parametrize(
    ("groups", "split", "folds"),
    [
        (["a", "b", "c", "d", "e", "f"], "groups", 5),
        (["a", "b", "c", "c"], "groups", 3),
        (["a", "b"], "groups", 2),
        (["a", "a", "a"], "fields", 3),
        (["a"] * 9, "fields", 5),
        (["a"], "blocks", 4),
    ],
)
def test_there_are_as_many_folds_as_the_groups_allow(groups: list[str], split: str, folds: int) -> None:
    plan = planned_split(groups, 5)
    assert (plan.split, plan.folds) == (split, folds)
    held = held_out_by(plan.split, groups, plan.folds)
    assert set(held) == ({-1} if split == "blocks" else set(range(folds)))
    told = " ".join([*plan.notices, *split_notices(plan.split, groups)])
    assert ("flatters" in told) == (split != "groups")
    assert (f"{folds} folds, not 5" in told) == (split == "groups" and folds < 5)
    if split == "groups":
        assert all(len({fold for g, fold in zip(groups, held, strict=True) if g == group}) == 1 for group in groups)


def test_a_stated_number_of_folds_is_refused_as_ever() -> None:
    with pytest.raises(InputError, match=r"1 group of fields .* cannot be split into 5 folds"):
        held_out_by("groups", ["a", "a"], 5)
    with pytest.raises(InputError, match="2 fields cannot be split into 5 folds"):
        held_out_by("fields", ["a", "a"], 5)
