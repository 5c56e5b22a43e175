"""What a run says at its end of phases that it does not find."""

from __future__ import annotations

from typing import Any

import numpy as np

from microseg.core.evaluation.metrics import fractions, iou
from microseg.train.auto.closing import MOST_WARNINGS, closing_warnings

NAMES = ["ferrite", "bainite", "carbide"]


def scores(*confusions: Any, names: list[str] = NAMES) -> dict[str, Any]:
    """Scores of folds with these confusions, as `evaluate` gives them."""

    def of(matrix: Any) -> dict[str, Any]:
        values, true = iou(np.array(matrix)), fractions(np.array(matrix))[0]
        return {
            "iou": {name: None if np.isnan(value) else float(value) for name, value in zip(names, values, strict=True)},
            "fractions": {name: {"true": float(value)} for name, value in zip(names, true, strict=True)},
        }

    pooled = np.sum(confusions, axis=0)
    each = [{"fold": k, **of(matrix)} for k, matrix in enumerate(confusions)]
    return of(pooled) | {"confusion": pooled.tolist(), "folds": {"each": each}}


GOOD = [[900, 10, 0], [10, 900, 0], [0, 0, 90]]


def test_a_phase_that_is_found_is_not_mentioned() -> None:
    assert closing_warnings(scores(GOOD, GOOD)) == []
    absent = [[900, 10, 0], [10, 900, 0], [0, 0, 0]]
    assert closing_warnings(scores(absent, GOOD)) == [], "a fold without the phase has not lost it"


def test_a_phase_that_is_not_found_is_named_with_what_takes_its_place() -> None:
    (text,) = closing_warnings(scores([[900, 10, 0], [10, 900, 0], [20, 70, 2]]))
    assert "'carbide' is not found (IoU 0.02)" in text and "76 % of its pixels are taken for 'bainite'" in text
    assert "more fields with 'carbide'" in text


def test_a_fold_that_loses_a_phase_is_named() -> None:
    (text,) = closing_warnings(scores(GOOD, [[900, 10, 0], [10, 900, 0], [0, 60, 1]]))
    assert "'carbide' is lost in the fields that fold 1 holds out" in text


def test_a_rough_phase_is_named() -> None:
    (text,) = closing_warnings(scores([[900, 10, 0], [10, 900, 30], [0, 60, 60]]))
    assert "'carbide' is found roughly (IoU 0.40): 50 % of its pixels are taken for 'bainite'" in text


def test_many_phases_take_few_lines() -> None:
    names = [f"p{index}" for index in range(20)]
    told = closing_warnings(scores(np.eye(20, k=1, dtype=int) * 100, names=names))
    assert len(told) == MOST_WARNINGS + 1 and "more phases are lost or rough" in told[-1]
