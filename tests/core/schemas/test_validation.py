"""The validation file: what it holds, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from microseg.core.errors import InputError
from microseg.core.schemas import validation as schema
from microseg.core.schemas.validation import Validation, read_validation, validation_beside, write_validation

MASKS = {"name": "a.tif", "sha256": "a" * 64, "group": "1", "confusion": [[60, 10], [5, 25]]}
COUNTED = {
    "name": "b.tif", "sha256": "b" * 64, "group": "2", "counts": {"points": 40, "on_phase": [29.5, 10.5]},
    "found": [0.75, 0.25],
}  # fmt: skip


def content(**changes: Any) -> dict[str, Any]:
    return {
        "kind": "validated", "network_sha256": "e" * 64, "weights_sha256": ["f" * 64], "domain": "steel",
        "preparation": {}, "phases": ["matrix", "carbide"], "created": "2026-11-30T10:00:00+00:00", "microseg": "0.2",
        "source": "labelled", "fields": [MASKS, COUNTED],
    } | changes  # fmt: skip


def written(folder: Path, **changes: Any) -> Path:
    path = validation_beside(folder / "bagged.onnx")
    write_validation(path, Validation.model_validate(content(**changes)))
    return path


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert path.name == "bagged.validation.json"
    found = read_validation(path)
    assert found.model_copy(update={"sha256": None}) == Validation.model_validate(content())
    masks, counted = found.fields
    assert (masks.true_fractions, masks.found_fractions) == ([0.7, 0.3], [0.65, 0.35])
    assert (counted.true_fractions, counted.found_fractions) == ([29.5 / 40, 10.5 / 40], [0.75, 0.25])


def test_other_spaces_are_the_same_file_and_another_figure_is_not(tmp_path: Path) -> None:
    path = written(tmp_path)
    kept = json.loads(path.read_text())
    path.write_text(json.dumps(kept))
    assert read_validation(path).domain == "steel"
    kept["fields"][0]["confusion"][0][1] = 0
    path.write_text(json.dumps(kept))
    with pytest.raises(InputError, match=r"SHA-256 differs: edited or damaged\)\. Remedy: repeat `microseg validate`"):
        read_validation(path)


def test_a_file_of_an_earlier_version_without_what_an_alarm_measures_is_read(tmp_path: Path) -> None:
    path = written(tmp_path)
    kept = json.loads(path.read_text())
    for each in (kept, *kept["fields"]):
        each.pop("alarm_sha256", None), each.pop("alarm", None), each.pop("sha256" if each is kept else "", None)
    path.write_text(json.dumps(kept | {"sha256": schema._content_sha256(kept)}))
    found = read_validation(path)
    assert found.alarm_sha256 is None and [field.alarm for field in found.fields] == [None, None]


def test_a_file_without_its_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.validation.json"
    path.write_text(json.dumps(content()))
    with pytest.raises(InputError, match="SHA-256 differs"):
        read_validation(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fields": [COUNTED | {"counts": {"points": 40, "on_phase": [29, 10]}}]},
            "39 points together, the field has 40",
        ),
        ({"fields": [COUNTED | {"counts": {"points": 40, "on_phase": [29.7, 10.3]}}]}, "whole or half points"),
        ({"fields": [COUNTED | {"found": [0.7, 0.2]}]}, "add up to 0.9, not to 1"),
        ({"fields": [MASKS | {"confusion": [[0, 0], [0, 0]]}]}, "counts no pixel"),
        ({"fields": [MASKS | {"confusion": [[1, -1], [0, 0]]}]}, "greater than or equal to 0"),
        ({"fields": [MASKS | {"confusion": [[1]]}]}, "not for 2 phases"),
        ({"fields": [MASKS | {"confusion": [[1, 2], [3]]}]}, "not for 2 phases"),
        ({"fields": [MASKS | {"found": [0.5, 0.5]}]}, "either `confusion`, or `counts`"),
        ({"fields": [MASKS, MASKS]}, "twice"),
        ({"kind": "cross-validated"}, "`fold` is for cross-validations"),
        ({"repeatability": {"std": [0.01], "degrees_of_freedom": 3}}, "of 1 phases, not of 2"),
        ({"network_sha256": "E"}, "network_sha256"),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Validation.checked(content(**changes), "a", "the validation", "repeat it")


@pytest.mark.parametrize("text", ["", "[]", '{"kind": NaN}', "{" * 100_000, "\xff"])
def test_no_validation_at_all_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x.validation.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match="is damaged"):
        read_validation(path)


def test_a_huge_file_is_refused_without_being_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "MOST_BYTES", 1 << 20)
    path = tmp_path / "x.validation.json"
    path.write_bytes(b" " * ((1 << 20) + 1))
    with pytest.raises(InputError, match="larger than 1 MiB"):
        read_validation(path)
