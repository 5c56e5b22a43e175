"""The seeded tiny training keeps its values: to rounding on every x86 processor, exactly on one machine."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from tests.chain import train

# Fold 0: step, mean loss since the row before, mIoU. Three instruction sets (AVX2, SSE4.1, none) and one or two threads gave
# losses within 0.0002, 0.019 and 0.010 of these, and mIoU within 0.004: rounding grows from step to step.
GOLDEN = [(2, 0.7801, 0.1372), (4, 1.3017, 0.1646), (6, 1.2836, 0.1645)]
LOSS_TOLERANCES = (0.001, 0.04, 0.04)
MIOU_TOLERANCE = 0.01


def test_the_learning_curve_is_the_known_one(trained: Path) -> None:
    rows = list(csv.DictReader((trained / "fold0" / "history.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(GOLDEN)
    for row, (step, loss, miou), tolerance in zip(rows, GOLDEN, LOSS_TOLERANCES, strict=True):
        assert int(row["step"]) == step
        assert float(row["loss"]) == pytest.approx(loss, abs=tolerance), f"loss at step {step}"
        assert float(row["miou"]) == pytest.approx(miou, abs=MIOU_TOLERANCE), f"mIoU at step {step}"


def test_a_second_run_on_the_same_machine_is_the_same(trained: Path, source: Path, tmp_path: Path) -> None:
    train(source, tmp_path / "run", only_folds=[0])
    for name in ("history.csv", "model.safetensors"):
        first, second = (run / "fold0" / name for run in (trained, tmp_path / "run"))
        assert first.read_bytes() == second.read_bytes(), name
