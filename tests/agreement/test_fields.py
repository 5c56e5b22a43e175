"""Fields labelled two ways: which rows fail."""

from __future__ import annotations

from microseg.agreement.check_table import CheckTable
from microseg.agreement.fields import FieldDifferences, check_fields
from microseg.agreement.labels import LabelDifference
from microseg.core.schemas.tolerance import LIMITS


def test_a_small_field_may_differ_by_a_pixel_and_loosens_no_other() -> None:
    differences = [
        ("small", LabelDifference(0.0, (0.3, 0.3), 256)),
        ("large", LabelDifference(0.0, (0.02, 0.02), 1_000_000)),
    ]
    table = CheckTable(["ferrite", "bainite"], LIMITS["fp32"])
    check_fields(table, FieldDifferences(differences, [0.5, 0.5], []), "other.onnx")
    assert [(check.check.split(":")[0], check.passed) for check in table.checks[1:]] == [
        ("field small", True), ("field large", False),
    ]  # fmt: skip
