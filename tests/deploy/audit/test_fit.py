"""The sentence on whether an engine fits a material."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.schemas.validation import PointCounts, ValidationField
from microseg.deploy.audit.fit import fit_of

TRUE = np.linspace(0.2, 0.5, 8)


def _fields(true: NDArray[np.float64], found: NDArray[np.float64]) -> list[ValidationField]:
    fields = []
    for index, (one, other) in enumerate(zip(true, found, strict=True)):
        on = round(1e6 * float(one))
        counts = PointCounts(points=1_000_000, on_phase=[1_000_000 - on, on])
        fields.append(
            ValidationField(
                name=str(index),
                sha256=f"{index:064x}",
                group=str(index),
                counts=counts,
                found=[1 - other, float(other)],
            )
        )
    return fields


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (TRUE + 0.005, "it fits this material"),
        (0.72 * TRUE - 0.02, "it errs evenly"),
        (TRUE + 0.05 * np.array([1, -1, 1, -1, 1, -1, 1, -1]), "it errs from field to field"),
        (np.array([0.1, 0.6, 0.1, 0.6, 0.1, 0.6, 0.1, 0.6]), "it does not know this material"),
    ],
)
def test_what_to_do(found: NDArray[np.float64], told: str) -> None:
    text = fit_of(_fields(TRUE, found), ["ferrite", "bainite"])
    assert told in text and "bainite at 35.0 %" in text


def test_the_line_is_stated() -> None:
    text = fit_of(_fields(TRUE, 0.72 * TRUE - 0.02), ["ferrite", "bainite"])
    assert "11.8 points too little bainite" in text and "0.72 of each further point" in text


def test_two_fields_say_nothing() -> None:
    assert "too few" in fit_of(_fields(TRUE[:2], TRUE[:2]), ["ferrite", "bainite"])
