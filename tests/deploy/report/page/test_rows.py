"""The data of the table of fields."""

from __future__ import annotations

from microseg.core.images.exclusion import artefact_reason
from microseg.deploy.report.page.rows import detail, table_data
from tests.deploy.report.page.made import alarm, findings, record


def test_columns_hold_what_the_records_say() -> None:
    fields = [
        record("a/1.png", 40, notices=["bar", "dark"], notice_kinds=["x", "y"], alarm=alarm("foreign", 0.123456)),
        record("a/2.png", 25, alarm=alarm("known", 0.01)),
        record("b/\u202e.png", 30, plain="", preview=""),
    ]
    data = table_data(findings(fields, "none", {"a": "none", "b": "none"}, not_counted={"a/2.png": "twice"}))
    rows, texts = data["rows"], data["texts"]
    assert rows["name"] == ["a/1.png", "a/2.png", "b/\\u202e.png"] and rows["place"] == [0, 0, "b/\u202e.png"]
    assert [data["sections"][index] for index in rows["section"]] == ["a", "a", "b"]
    assert {texts[index] for index in rows["detail"]} == {"10 × 10 px · 0.5 µm/px (domain.yaml) · 25 µm²"}
    assert [[texts[index] for index in each] if each else each for each in rows["notes"]] == [["bar", "dark"], 0, 0]
    assert rows["fraction"] == [[600_000, 750_000, 700_000], [400_000, 250_000, 300_000]]
    assert rows["spread"] == [[0, 0, 0], [0, 0, 0]]
    assert rows["plain"] == rows["preview"] == [1, 1, 0]
    assert [texts[index] for index in rows["counted"]] == ["", "twice", ""]
    assert rows["level"] == [2, 0, -1] and rows["error"] == [123456, 10000, None]


def test_what_is_no_material_has_no_fraction() -> None:
    (field,) = [
        record("1.png", 40, counts=[60, 0], fold_counts=[[60, 40]] * 2, not_measured={artefact_reason("bainite"): 40})
    ]
    assert table_data(findings([field]))["rows"]["fraction"] == [[1_000_000], [None]]


def test_details_state_only_what_is_known() -> None:
    assert detail(record("1.png", pixel_size_um=None, pixel_size_source=None)) == "10 × 10 px"
    assert (
        detail(record("1.png", pixel_size_um=None, pixel_size_source="assumed")) == "10 × 10 px · pixel size: assumed"
    )
    assert detail(record("1.png", pixel_height_um=1.0)) == "10 × 10 px · 0.5 × 1 µm/px (domain.yaml) · 50 µm²"
