"""The table of regret in fraction error that `benchmarks.uda` prints."""

from __future__ import annotations

from typing import Any

from benchmarks.documentation.markdown import rows_of
from benchmarks.uda_tables import bag_errors, fractions_table


def _scores(*errors: float) -> dict[str, Any]:
    """Scores of a bag with these errors of its phases."""
    folds = {"each": [{"fold": 0, "miou": 0.5}]}
    return {
        "miou": 0.5,
        "fractions": {f"phase {i}": {"error": error} for i, error in enumerate(errors)},
        "folds": folds,
    }


def _rows(**of_this_version: Any) -> list[dict[str, Any]]:
    estimates = {"disagreement": 0.031, "limit": 0.02}
    candidates = [{"name": "unadapted"}, {"name": "source"}, {"name": "dacs", "estimates": estimates}]
    decision = {"verdict": "adapt", "chosen": "dacs", "candidates": candidates}
    same = {"case": "T2", "label": "", "seed": 0, "folds": 1, "decision": decision}
    before = _scores(0.01, 0.05)
    return [
        same | {"method": "source", "before": before, "after": _scores(0.02, 0.01)},
        same | {"method": "auto", "before": before, "after": _scores(0.02, 0.04)} | of_this_version,
    ]


def test_the_regret_is_that_of_the_phase_that_is_furthest_off() -> None:
    first, *means = rows_of(fractions_table(_rows()))
    assert first == ["T2", "adapt (dacs, 4.0)", "3.1 of 2.0", "source", "2.0", "2.0", "3.0", "0.0", "2.0"]
    assert [row[0] for row in means] == ["mean", "mean of *adapt*"] and means[0][5:] == first[5:]


def test_bags_that_were_not_taken_count_where_they_are_scored() -> None:
    rows = _rows(bags={"dacs-2": {"miou": 0.6, "fraction_error": 0.005}})
    assert bag_errors(rows[1], rows[0]) == {"unadapted": 0.05, "source": 0.02, "dacs-2": 0.005, "dacs": 0.04}
    assert rows_of(fractions_table(rows))[0][3:6] == ["dacs-2", "0.5", "3.5"]
    assert rows_of(fractions_table(rows[:1])) == []
