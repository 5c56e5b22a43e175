"""The benchmark of coverage, on engines that are drawn instead of trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.coverage import FIELDS, MEANS, _redrawn, cells, kept_parts, section_weights, summary, table
from benchmarks.coverage_data import LABELLED_FRACTIONS, Pool, spread_fractions


def _pool(bias: float) -> Pool:
    """120 fields that an engine finds too low."""
    rng = np.random.default_rng(5)
    true = spread_fractions((0.02, 0.98), 120, rng)
    found = np.clip(true - bias + rng.normal(0, 0.02, 120), 0, 1)
    pair = (np.stack([1 - each, each], 1) for each in (true, found))
    true2, found2 = pair
    return Pool(true2, found2, np.stack([found2, found2], 1))


def test_fractions_have_one_in_each_part_of_the_range() -> None:
    fractions = np.sort(spread_fractions((0.2, 0.8), 6, np.random.default_rng(1)))
    assert np.array_equal(np.floor((fractions - 0.2) / 0.1), np.arange(6))


@pytest.mark.parametrize("mean", MEANS)
def test_weights_give_the_wanted_mean(mean: float) -> None:
    fractions = _pool(0.0).true[:, 1]
    weights = section_weights(fractions, mean)
    assert weights.sum() == pytest.approx(1) and weights @ fractions == pytest.approx(mean, abs=1e-6)
    assert np.sqrt(weights @ (fractions - mean) ** 2) == pytest.approx(0.08, abs=0.02)


def test_labelled_fields_are_spread_and_drawn_anew() -> None:
    pool, rng = _pool(0.0), np.random.default_rng(2)
    draw = _redrawn(pool, 8)
    first, second = draw(rng), draw(rng)
    assert len(first) == 8 and not np.array_equal(first.true, second.true)
    assert LABELLED_FRACTIONS[0] <= first.true[:, 1].min() and first.true[:, 1].max() <= LABELLED_FRACTIONS[1]


def test_a_biased_engine_is_covered_by_corrected_intervals_alone() -> None:
    pool = _pool(0.06)
    found = cells([(pool, _redrawn(pool, 8))], 12, np.random.default_rng(3))
    assert [(cell["fields"], cell["mean"]) for cell in found] == [(n, mean) for n in FIELDS for mean in MEANS]
    judged = summary([{"domain": "t1", "validated": 8, **cell} for cell in found])
    assert judged["pooled_coverage"] > 0.85 > 0.6 > np.mean([cell["coverage_e562"] for cell in found])
    assert judged["worst_coverage"] == min(cell["coverage"] for cell in found)
    assert table("validated", judged).row_count == len(FIELDS)


def test_parts_that_are_not_drawn_anew_stay_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "coverage.json"
    assert kept_parts(None, ["home"]) == kept_parts(path, ["home"]) == {}
    stored = {"setting": {"seed_drawn": 7}, "home": {}, "validated": {}, "unaudited_claims": {"cells": []}}
    path.write_text(json.dumps(stored), encoding="utf-8")
    assert kept_parts(path, ["home"]) == {"validated": {"seed_drawn": 7}, "unaudited_claims": {"cells": []}}
