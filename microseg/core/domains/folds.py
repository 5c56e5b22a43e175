"""Folds by group: all fields of one specimen or spot are in one fold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from microseg.core.errors import InputError

_LISTED = 10


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
