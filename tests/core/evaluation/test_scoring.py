"""The JSON of `evaluate`, from predictions that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.domain import load_domain, native_labels
from microseg.core.errors import InputError
from microseg.core.evaluation.scoring import FieldScore, Prediction, evaluation, rdt, score_fields
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import DomainEntry, Grid
from tests.core.samples import halves, write_domain

PHASES = [PhaseInfo(name=name, color=color) for name, color in (("ferrite", "#0072b2"), ("bainite", "#e69f00"))]
NAMED = {"phases": [{"name": "ferrite", "value": 0}, {"name": "bainite", "value": 1}]}
ENTRY = DomainEntry(name="any")


def truth_of(path: Path) -> dict[str, NDArray[np.uint8]]:
    domain = load_domain(path)
    return {field.image.stem: native_labels(field, domain) for field in domain.fields}


def perfect(path: Path, seen: bool = False) -> list[FieldScore]:
    """Scores of predictions equal to the masks' values."""
    truth = truth_of(path)

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        assert len(sha256) == 64
        labels = truth[prepared.path.stem]
        return Prediction(labels, {0: labels, 1: np.zeros_like(labels)}, seen)

    return score_fields(load_domain(path), ENTRY, Grid(), PHASES, predict)


@pytest.fixture
def two_fields(tmp_path: Path) -> Path:
    masks = {"a": halves(), "b": halves(values=(0, 0, 0, 1))}
    return write_domain(tmp_path / "two", masks, NAMED)


def test_the_keys_of_the_json(two_fields: Path) -> None:
    result = evaluation(perfect(two_fields), PHASES)
    assert list(result)[:3] == ["miou", "iou", "fractions"]
    assert result["miou"] == 1.0
    assert result["iou"] == {"ferrite": 1.0, "bainite": 1.0}
    assert result["fractions"]["bainite"] == {"true": 0.375, "predicted": 0.375, "error": 0.0}
    assert [field["name"] for field in result["fields"]] == ["a.tif", "b.tif"]
    assert all(field["miou"] == 1.0 and not field["seen_in_training"] for field in result["fields"])
    assert [fold["fold"] for fold in result["folds"]["each"]] == [0, 1]
    assert result["baseline"]["name"] == "Otsu"
    assert result["spread"]["miou"] == [1.0, 1.0]


def test_folds_have_mean_and_standard_deviation(two_fields: Path) -> None:
    folds = evaluation(perfect(two_fields), PHASES)["folds"]
    blind = folds["each"][1]
    assert blind["iou"] == {"ferrite": pytest.approx(0.625), "bainite": 0.0}
    assert folds["miou_mean"] == pytest.approx((1 + 0.3125) / 2)
    assert folds["miou_std"] == pytest.approx(abs(1 - 0.3125) / np.sqrt(2))


def test_the_error_is_the_mean_over_fields(two_fields: Path) -> None:
    """Errors of opposite sign cancel in pooled fractions, and must not in `error`."""

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        flipped = {"a": halves(values=(0, 0, 0, 1)), "b": halves()}[prepared.path.stem]
        return Prediction(flipped, {0: flipped}, seen=True)

    result = evaluation(score_fields(load_domain(two_fields), ENTRY, Grid(), PHASES, predict), PHASES)
    assert result["fractions"]["bainite"]["true"] == result["fractions"]["bainite"]["predicted"] == 0.375
    assert result["fractions"]["bainite"]["error"] == pytest.approx(0.25)
    assert all(field["seen_in_training"] for field in result["fields"])


def test_an_absent_phase_is_null_and_left_out_of_the_mean(tmp_path: Path) -> None:
    result = evaluation(perfect(write_domain(tmp_path / "one", {"a": halves(values=(0,))}, NAMED)), PHASES)
    assert result["iou"] == {"ferrite": 1.0, "bainite": None}
    assert result["miou"] == 1.0
    assert result["folds"]["each"][0]["iou"]["bainite"] is None


def test_unlabelled_pixels_count_nowhere(tmp_path: Path) -> None:
    path = write_domain(tmp_path / "part", {"a": halves(values=(0, 1, 9, 9))}, NAMED | {"unlabelled": 9})

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        labels = halves(values=(0, 1, 0, 1))
        return Prediction(labels, {0: labels}, seen=False)

    result = evaluation(score_fields(load_domain(path), ENTRY, Grid(), PHASES, predict), PHASES)
    assert result["miou"] == 1.0
    assert result["fractions"]["bainite"]["true"] == 0.5


def test_masks_without_names_take_the_models_phases(tmp_path: Path) -> None:
    result = evaluation(perfect(write_domain(tmp_path / "bare", {"a": halves()})), PHASES)
    assert result["iou"] == {"ferrite": 1.0, "bainite": 1.0}


def test_phases_are_matched_by_name(tmp_path: Path) -> None:
    other_way = {"phases": [{"name": "bainite", "value": 0}, {"name": "ferrite", "value": 1}]}
    result = evaluation(perfect(write_domain(tmp_path / "swapped", {"a": halves()}, other_way)), PHASES)
    assert result["miou"] == 0.0


@pytest.mark.parametrize(
    ("masks", "described", "message"),
    [
        (
            {"a": halves()},
            {"phases": [{"name": "ferrite"}, {"name": "perlite"}]},
            "'perlite' is none of the model's phases",
        ),
        ({"a": halves(values=(0, 1, 2))}, None, "masks hold 3 values, the engine knows 2 phases"),
    ],
)
def test_other_phases_are_refused(
    tmp_path: Path, masks: dict[str, NDArray[np.uint8]], described: dict[str, object] | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        perfect(write_domain(tmp_path / "other", masks, described))


def test_without_masks_there_is_nothing_to_score(tmp_path: Path) -> None:
    folder = tmp_path / "bare"
    folder.mkdir()
    Image.fromarray(halves() * 100).save(folder / "a.png")
    with pytest.raises(InputError, match="no labels to score against"):
        score_fields(load_domain(folder), ENTRY, Grid(), PHASES, lambda prepared, sha256: pytest.fail("called"))


def test_a_coarser_grid_is_scored_on_native_pixels(tmp_path: Path) -> None:
    path = write_domain(tmp_path / "coarse", {"a": halves(32, 40)}, NAMED)

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        assert prepared.shape == (16, 20)
        labels = halves(16, 20)
        return Prediction(labels, {0: labels}, seen=False)

    (score,) = score_fields(load_domain(path), ENTRY, Grid(scale=0.5), PHASES, predict)
    assert score.bag.sum() == 32 * 40
    assert np.trace(score.bag) == 32 * 40


def test_open_bits_are_those_of_the_whole_domain(tmp_path: Path) -> None:
    """As in training: a dark field of a 12-bit domain must not be stretched by itself."""
    described = NAMED | {"intensity": {"rule": "significant_bits"}}
    path = write_domain(tmp_path / "bits", {"bright": halves(), "dark": halves()}, described)
    for name, grey in (("bright", 4000), ("dark", 500)):
        pixels = np.full((32, 40), grey, np.uint16)
        pixels[-1, -1] = 0  # a field of one grey is refused as blank
        Image.fromarray(pixels).save(path / "images" / f"{name}.tif")
    greys = {}

    def predict(prepared: PreparedField, sha256: str) -> Prediction:
        greys[prepared.path.stem] = int(prepared.rows(0, 1)[0, 0])
        return Prediction(halves(), {0: halves()}, seen=False)

    score_fields(load_domain(path), ENTRY, Grid(), PHASES, predict)
    assert greys == {"bright": round(4000 / 4095 * 255), "dark": round(500 / 4095 * 255)}


def test_rdt_is_the_drop_relative_to_the_source() -> None:
    assert rdt(0.6, 0.8) == pytest.approx(-0.25)
    assert rdt(None, 0.8) is None
    assert rdt(0.6, 0.0) is None
