"""`benchmarks.audit`: what it counts of an audit, on fields whose errors are known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import audit
from benchmarks.coverage_data import Pool


def _pool() -> Pool:
    rng = np.random.default_rng(1)
    true = rng.uniform(0.1, 0.6, 100)
    found = 0.8 * true + rng.normal(0, 0.01, 100)
    return Pool(np.stack([1 - true, true], 1), np.stack([1 - found, found], 1), np.zeros((100, 1, 2)))


def test_cells_and_their_summary() -> None:
    rng = np.random.default_rng(2)
    cells = list(audit._cells("t1", [_pool(), _pool()], (0.35, None), 60, rng))
    assert [(cell["audit"], cell["mean"], cell["audits"]) for cell in cells] == [
        ("masks", 0.35, 60), ("masks", None, 60), ("points", 0.35, 60), ("points", None, 60),
    ]  # fmt: skip
    assert all(cell["correlation"] > 0.8 and cell["half_width_ratio"] < 0.8 for cell in cells)
    result = audit.summary(cells)
    assert result["covered"] == pytest.approx(np.mean([cell["covered"] for cell in cells]))
    assert result["covered"] > 0.85
    assert audit.table(result).row_count == 4
