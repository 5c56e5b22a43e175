"""What a user should know from the fingerprint of a domain, although training runs."""

from __future__ import annotations

from collections.abc import Sequence

from microseg.core.schemas.fingerprint import DatasetFingerprint, FieldCopy, ShiftedMask

_LISTED = 5
# Below this share of the labelled area a phase is rare.
_RARE = 0.01


def fingerprint_notices(found: DatasetFingerprint) -> tuple[str, ...]:
    """Sentences on copies, shifted masks, groups and rare phases.

    Args:
        found: the fingerprint.
    """
    return (
        *_on_copies([pair for pair in found.copies if pair.is_across], is_across=True),
        *_on_copies([pair for pair in found.copies if not pair.is_across], is_across=False),
        *_on_shifts(found.shifted_masks),
        *_on_groups(found),
        *_on_phases(found),
    )


def _on_copies(pairs: Sequence[FieldCopy], *, is_across: bool) -> list[str]:
    notices = []
    for kind, verb in (("copy", "show the same picture"), ("overlap", "share a part of their pictures")):
        told = [_pair_text(pair) for pair in pairs if pair.kind == kind]
        if not told:
            continue
        number = f"{len(told)} pair{'s' * (len(told) != 1)} of fields"
        if is_across:
            notices.append(
                f"{number} of different groups {verb}: {_listed(told)}. Where one is held out and the other is learned, these "
                "make scores on held-out fields too good. Remedy: leave one out, or give both one group in `groups`."
            )
        else:
            notices.append(f"{number} of one group {verb}: {_listed(told)}. They are never held out from each other.")
    return notices


def _pair_text(pair: FieldCopy) -> str:
    names = f"{pair.first} and {pair.second}"
    if pair.kind == "overlap":
        down, right = pair.shift_px
        return f"{names} (moved by {down} px down, {right} px right)"
    negative = ["dark and bright exchanged"] if pair.score < 0 else []
    changes = [*([] if pair.change == "none" else [pair.change]), *negative]
    return f"{names} ({'; '.join(changes)})" if changes else names


def _on_shifts(masks: Sequence[ShiftedMask]) -> list[str]:
    if not masks:
        return []
    told = [f"{each.field} (labels {each.dy_px} px down, {each.dx_px} px right)" for each in masks]
    number = "the labels of 1 field fit" if len(masks) == 1 else f"the labels of {len(masks)} fields fit"
    return [
        f"{number} the picture clearly better when they are moved: {_listed(told)}. Remedy: look at them with "
        "`microseg preview`, and export these masks again on the picture's own grid."
    ]


def _on_groups(found: DatasetFingerprint) -> list[str]:
    suspected = found.suspected_groups
    notices = []
    if suspected is not None:
        notices.append(
            f"no groups are stated, and the names suggest {suspected.groups} specimens: fields of one specimen in two folds "
            "make scores on held-out fields too good. Remedy, if they are specimens, in domain.yaml: "
            f"groups: '{suspected.rule}'"
        )
    return notices


def _on_phases(found: DatasetFingerprint) -> list[str]:
    notices = []
    rare = [phase for phase in found.phases if 0 < phase.area_share < _RARE]
    if rare:
        told = [f"{phase.name} ({100 * phase.area_share:.2g} %)" for phase in rare]
        notices.append(
            f"{'a phase takes' if len(rare) == 1 else f'{len(rare)} phases take'} less than 1 % of the labelled area: "
            f"{_listed(told)}. Few pixels decide the score: label more fields that hold it"
        )
    if found.fields > 1 and found.groups == 1:
        # With several groups, `check` names the one that holds the phase alone.
        alone = [phase.name for phase in found.phases if phase.fields == 1]
        if alone:
            notices.append(
                f"in one field only: {_listed([repr(name) for name in alone])}. What a fold says about it comes from no second "
                "field. Remedy: label it in others, or merge it with a neighbour"
            )
    present = [phase for phase in found.phases if phase.labelled_px]
    if len(present) == 1:
        notices.append(f"all labelled pixels are {present[0].name!r}: there is nothing to tell it from")
    return notices


def _listed(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more
