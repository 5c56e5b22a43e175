"""Folds by group: all fields of one specimen or spot are in one fold. And what is left where a domain has few groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from microseg.core.errors import InputError

# What a fold holds out.
Split = Literal["groups", "fields", "blocks"]
# Folds of a training that states none.
FOLDS = 5
# Blocks of one field: quarters hold three quarters of its labels for each fold to learn from.
MOST_BLOCKS = 4
_LISTED = 10
_SAME_SPECIMEN = (
    "all fields are of the group {group}: folds hold out fields of a specimen that they learn from. This flatters the scores. "
    "Fields of a second specimen show what a new one gets"
)
_SAME_FIELD = (
    "{count}: folds hold out blocks of fields that they learn the rest of. This flatters the scores. A second labelled field "
    "shows what a new one gets"
)


def assign_folds(groups: Sequence[str], folds: int) -> list[int]:
    """The fold of each field, balanced by number of fields. The same groups give the same folds.

    The largest group goes first, always into the fold with the fewest fields.

    Args:
        groups: the group of each field.
        folds: number of folds, at least 2.

    Raises:
        InputError: fewer groups than folds.
    """
    sizes = Counter(groups)
    if folds < 2:
        raise InputError(f"{folds} folds: at least 2 are needed. Remedy: --folds 2 or more.")
    if len(sizes) < folds:
        names = ", ".join(sorted(sizes)[:_LISTED]) + (" ..." if len(sizes) > _LISTED else "")
        fewer = f"--folds {len(sizes)}, or " if len(sizes) >= 2 else ""
        raise InputError(
            f"{len(sizes)} group{'s' * (len(sizes) != 1)} of fields ({names}) cannot be split into {folds} folds. "
            f"Remedy: {fewer}`groups` in domain.yaml that tell more specimens apart."
        )
    loads = [0] * folds
    fold_of: dict[str, int] = {}
    for group, size in sorted(sizes.items(), key=lambda item: (-item[1], item[0])):
        fold = loads.index(min(loads))
        fold_of[group] = fold
        loads[fold] += size
    return [fold_of[group] for group in groups]


@dataclass(frozen=True)
class SplitPlan:
    """How a domain is split into folds.

    split: What a fold holds out.
    folds: Number of folds.
    notices: What the user should know about the scores.
    """

    split: Split
    folds: int
    notices: tuple[str, ...] = ()


def planned_split(groups: Sequence[str], folds: int) -> SplitPlan:
    """The best split that a domain allows: by group, else by field, else by blocks of its only field.

    Args:
        groups: The group of each field.
        folds: Folds that are wanted, at least 2.

    Returns:
        The split, with as many folds as there can be, up to `folds`.
    """
    known = len(set(groups))
    if known >= folds or not groups:
        return SplitPlan("groups", folds)
    if known >= 2:
        return SplitPlan("groups", known, (f"the fields are of {known} groups: {known} folds, not {folds}",))
    return (
        SplitPlan("fields", min(folds, len(groups)))
        if len(groups) > 1
        else SplitPlan("blocks", min(folds, MOST_BLOCKS))
    )


def kept_split(groups: Sequence[str], folds: int) -> tuple[SplitPlan, list[int]]:
    """The split of fields with which a run of so many folds goes on, however few they are.

    Args:
        groups: the group of each new field.
        folds: folds of the run.

    Returns:
        The split by group with all folds, and the fold that holds each field out. With fewer groups than folds, some folds hold
        out none. All folds learn the fields of a single group (-1).
    """
    known = len(set(groups))
    elsewhere = "scored on fields that the run which is continued held out"
    if known == 1:
        what = "the one new field is" if len(groups) == 1 else f"the {len(groups)} new fields are of one group and are"
        return SplitPlan("groups", folds, (f"{what} learned by every fold: folds are {elsewhere}",)), [-1] * len(groups)
    notices: tuple[str, ...] = ()
    if known < folds:
        notices = (
            f"the new fields are of {known} groups: {known} of {folds} folds hold one out, the others are {elsewhere}",
        )
    return SplitPlan("groups", folds, notices), assign_folds(groups, min(folds, known))


def split_notices(split: Split, groups: Sequence[str]) -> tuple[str, ...]:
    """What the user should know about scores of such folds."""
    if split == "blocks":
        return (
            _SAME_FIELD.format(count="one labelled field" if len(groups) == 1 else f"{len(groups)} labelled fields"),
        )
    if split == "fields" and len(set(groups)) == 1:
        return (_SAME_SPECIMEN.format(group=repr(groups[0])),)
    if split == "fields" and len(set(groups)) < len(groups):
        return ("folds hold out fields of specimens that they learn from. This flatters the scores",)
    return ()


def held_out_by(split: Split, groups: Sequence[str], folds: int) -> list[int]:
    """The fold that holds each field out; -1 for all of them where folds hold out blocks.

    Args:
        split: What a fold holds out.
        groups: The group of each field.
        folds: Number of folds.

    Raises:
        InputError: Fewer groups, or fields, than folds.
    """
    match split:
        case "groups":
            return assign_folds(groups, folds)
        case "fields":
            if len(groups) < folds:
                raise InputError(
                    f"{len(groups)} field{'s' * (len(groups) != 1)} cannot be split into {folds} folds. Remedy: split=blocks, "
                    "or more labelled fields."
                )
            return assign_folds([str(index) for index in range(len(groups))], folds)
        case "blocks":
            return [-1] * len(groups)
