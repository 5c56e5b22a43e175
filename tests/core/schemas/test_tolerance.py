"""What may differ, by precision."""

from __future__ import annotations

import pytest

from microseg.core.schemas.tolerance import (
    LEAST_POINTS,
    LIMITS,
    STUDENT_LIMIT,
    limit_between,
    limit_over,
    point_limits,
)


def test_limits_guard_a_rare_phase() -> None:
    assert point_limits(LIMITS["fp32"], [0.9, 0.003]) == [0.01, 0.01]
    assert point_limits(LIMITS["fp16"], [0.9, 0.02, 0.0]) == pytest.approx([0.1, 0.04, LEAST_POINTS])
    assert point_limits(LIMITS["int8"], [0.9, 0.003, 0.0]) == pytest.approx([0.3, 0.015, LEAST_POINTS])
    assert limit_over(0.3, 1000) == 0.3 and limit_over(LEAST_POINTS, 1000) == pytest.approx(0.1)  # one pixel
    assert point_limits(STUDENT_LIMIT, [0.9, 0.003, 0.0]) == pytest.approx([0.5, 0.03, LEAST_POINTS])
    assert limit_between("fp32", "int8") == limit_between("int8", "fp16") == LIMITS["int8"]
