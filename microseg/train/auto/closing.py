"""What a run says at its end: phases that it does not find, and what would help."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from microseg.core.errors import InputError
from microseg.train.auto.options import EVALUATION

# IoU below which a phase counts as not found, and above which its outline can be used.
LOST, ROUGH = 0.1, 0.5
MOST_WARNINGS = 6


def read_evaluation(run: Path) -> dict[str, Any] | None:
    """The scores of a run of `auto` on its held-out fields; None where it has none.

    Args:
        run: The run folder.

    Raises:
        InputError: The file is damaged.
    """
    file = run / EVALUATION
    if not file.is_file():
        return None
    try:
        scores = json.loads(file.read_text(encoding="utf-8"))
        if not {"iou", "miou", "spread", "fractions", "fields", "folds", "confusion"} <= scores.keys():
            raise ValueError("keys are missing")
    except (ValueError, AttributeError, OSError) as error:
        remedy = "remove it, and `microseg train supervised` with --resume writes it again"
        raise InputError(f"{file}: is damaged ({error}). Remedy: {remedy}.") from error
    return dict(scores)


def closing_warnings(scores: dict[str, Any]) -> list[str]:
    """Phases that are lost or rough on held-out fields.

    Args:
        scores: Scores of the run on its own domain, as of `core.evaluation.scoring.evaluation`.

    Returns:
        One sentence for each phase, the worst first.
    """
    names = list(scores["iou"])
    known = {name: value for name, value in scores["iou"].items() if value is not None}
    found = []
    for name, value in sorted(known.items(), key=lambda item: item[1]):
        index = names.index(name)
        lost = [fold["fold"] for fold in scores["folds"]["each"] if _is_lost(fold, name)]
        if value < LOST:
            found.append(
                f"the phase {name!r} is not found (IoU {value:.2f}){_mostly(scores, names, index)}. {_help(name)}"
            )
        elif lost:
            folds = ", ".join(map(str, lost))
            found.append(f"the phase {name!r} is lost in the fields that fold {folds} holds out. {_help(name)}")
        elif value < ROUGH:
            found.append(
                f"the phase {name!r} is found roughly (IoU {value:.2f}){_mostly(scores, names, index)}. {_help(name)}"
            )
    others = len(found) - MOST_WARNINGS
    return (
        [*found[:MOST_WARNINGS], f"{others} more phases are lost or rough: see evaluation.json"]
        if others > 0
        else found
    )


def _is_lost(fold: dict[str, Any], name: str) -> bool:
    value = fold["iou"][name]
    return value is not None and value < LOST and bool(fold["fractions"][name]["true"])


def _mostly(scores: dict[str, Any], names: list[str], index: int) -> str:
    """What is found in its place most often."""
    confusion = np.array(scores["confusion"])
    row = confusion[index].copy()
    row[index] = 0
    if not row.sum():
        return ""
    other = int(row.argmax())
    share = 100 * row[other] / confusion[index].sum()
    return f": {share:.0f} % of its pixels are taken for {names[other]!r}"


def _help(name: str) -> str:
    return (
        f"What helps: more fields with {name!r}, more minutes, another `scale`, or one phase for both in domain.yaml (their "
        "mask values together under `values`)"
    )
