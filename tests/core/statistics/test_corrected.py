"""Corrected fractions and their intervals."""

from __future__ import annotations

import math
import secrets

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.statistics.corrected import CORRECTION, KnownUncertainty, PhaseResult, corrected_fractions
from microseg.core.statistics.sampling import SAMPLING
from microseg.core.statistics.validation_sample import ValidationSample


def _two(values: object) -> NDArray[np.float64]:
    second = np.asarray(values, np.float64)
    return np.stack([1 - second, second], -1)


def _sample(true: object, found: object, groups: tuple[str, ...] | None = None) -> ValidationSample:
    m = len(np.asarray(true))
    return ValidationSample(_two(true), _two(found), groups or tuple(map(str, range(m))), np.full(m, math.inf))


TRUE = np.linspace(0.15, 0.85, 8)
NOISE = np.array([0.01, -0.02, 0.015, -0.005, 0.02, -0.01, 0.0, -0.01])
VALIDATION = _sample(TRUE, 0.1 + 0.7 * TRUE + NOISE)


def test_a_line_is_inverted() -> None:
    """Found 0.1 + 0.7 f: a section found at 0.345 to 0.415 has about 0.4 of the phase."""
    first, second = corrected_fractions(_two([0.345, 0.38, 0.415]), VALIDATION)
    assert second.raw == pytest.approx(0.38)
    assert second.corrected == pytest.approx(0.4, abs=0.015)
    assert first.corrected == pytest.approx(1 - second.corrected)
    assert second.interval is not None and first.interval is not None
    assert second.interval[0] < 0.4 < second.interval[1]
    assert first.interval == pytest.approx((1 - second.interval[1], 1 - second.interval[0]))
    assert second.validated_range == pytest.approx((0.15, 0.85))
    assert sum(row.share for row in second.budget) == pytest.approx(1)


def test_sampling_is_the_spread_of_the_corrected_fields() -> None:
    """Slope 0.7: a deviation of 0.035 between found fields is one of 0.05 between corrected ones."""
    _, second = corrected_fractions(_two([0.345, 0.38, 0.415]), VALIDATION)
    sampling = next(row for row in second.budget if row.term == SAMPLING)
    assert sampling.value == pytest.approx(0.05 / math.sqrt(3), rel=0.08)
    assert (sampling.kind, sampling.degrees) == ("A", 2)


@pytest.mark.parametrize(
    ("found", "validation", "why"),
    [
        (_two([0.3]), VALIDATION, "one field"),
        (_two([0.3, 0.4]), _sample([0.2, 0.5], [0.2, 0.5], ("a", "a")), "one group of labelled fields"),
        (_two([0.0, 0.0]), _sample([0, 0, 0], [0, 0, 0.1]), "the labelled fields hold one phase alone"),
    ],
)
def test_no_interval_where_a_term_is_unknown(
    found: NDArray[np.float64], validation: ValidationSample, why: str
) -> None:
    for result in corrected_fractions(found, validation):
        assert (result.interval, result.budget, result.withheld) == (None, (), why)
        assert result.raw == pytest.approx(result.raw) and 0 <= result.corrected <= 1


def test_a_phase_that_only_others_lack_keeps_its_interval() -> None:
    """Three phases, the last one never there: the others are measured, the last is not claimed."""
    true = np.array([[0.3, 0.7, 0], [0.5, 0.5, 0], [0.7, 0.3, 0], [0.4, 0.6, 0]])
    found = true + np.array([[0.01, -0.01, 0], [-0.01, 0.01, 0], [0.02, -0.02, 0], [0, 0, 0]])
    validation = ValidationSample(true, found, ("a", "b", "c", "d"), np.full(4, math.inf))
    results = corrected_fractions(np.array([[0.4, 0.6, 0], [0.45, 0.55, 0], [0.5, 0.5, 0]]), validation)
    assert [result.interval is None for result in results] == [False, False, True]
    assert results[2].withheld == "the labelled fields hold one phase alone"


def test_fractions_of_exactly_0_and_1_stay_fractions() -> None:
    low = corrected_fractions(_two([0.0, 0.0, 0.0]), VALIDATION)
    high = corrected_fractions(_two([1.0, 1.0, 1.0]), VALIDATION)
    for result in (*low, *high):
        assert result.interval is not None
        assert 0 <= result.interval[0] <= result.corrected <= result.interval[1] <= 1
        assert result.interval[1] > result.interval[0]


def test_an_engine_that_does_not_see_the_phase_gives_the_whole_range() -> None:
    validation = _sample(TRUE, 0.85 + NOISE)
    _, second = corrected_fractions(_two([0.84, 0.86, 0.85, 0.87]), validation)
    assert second.interval == (0, 1)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        corrected_fractions(np.array([[0.5, 0.3, 0.2]]), VALIDATION)
    with pytest.raises(ValueError, match="1 sections for 2 fields"):
        corrected_fractions(_two([0.5, 0.6]), VALIDATION, sections=["a"])
    with pytest.raises(ValueError, match="of the folds"):
        corrected_fractions(_two([0.5, 0.6]), VALIDATION, fold_found=np.ones((3, 2, 2)))


def test_known_terms_are_rows_of_the_budget() -> None:
    known = [KnownUncertainty("repeatability", (0.01, 0.01), 4), KnownUncertainty("annotators", (0.02, 0.02))]
    plain = corrected_fractions(_two([0.3, 0.35, 0.32]), VALIDATION)[1]
    more = corrected_fractions(_two([0.3, 0.35, 0.32]), VALIDATION, known=known)[1]
    rows = {row.term: row for row in more.budget}
    assert (rows["repeatability"].value, rows["repeatability"].kind, rows["repeatability"].degrees) == (0.01, "A", 4)
    assert (rows["annotators"].kind, rows["annotators"].degrees) == ("B", math.inf)
    assert plain.standard_uncertainty is not None and more.standard_uncertainty is not None
    assert more.standard_uncertainty == pytest.approx(math.hypot(plain.standard_uncertainty, 0.01, 0.02))


def test_the_mean_of_the_folds_is_corrected_where_folds_were_validated() -> None:
    """The bag finds 0.05 more than its folds; labelled fields that folds found say nothing of that."""
    folds = np.stack([_two([0.30, 0.35, 0.32]), _two([0.34, 0.39, 0.36])], axis=1)
    bag = folds.mean(1) + np.array([-0.05, 0.05])
    by_folds = corrected_fractions(bag, VALIDATION, fold_found=folds)[1]
    assert by_folds.raw == pytest.approx(bag[:, 1].mean())
    assert by_folds.corrected == corrected_fractions(folds.mean(1), VALIDATION)[1].corrected


def test_more_groups_make_the_correction_surer() -> None:
    def correction(result: PhaseResult) -> float:
        return next(row.value for row in result.budget if row.term == CORRECTION)

    found = _two([0.3, 0.35, 0.32])
    grouped = _sample(TRUE, 0.1 + 0.7 * TRUE + NOISE, tuple("aabbccdd"))
    few = corrected_fractions(found, grouped)[1]
    many = corrected_fractions(found, _sample(np.tile(TRUE, 4), np.tile(0.1 + 0.7 * TRUE + NOISE, 4)))[1]
    assert correction(many) < 0.6 * correction(corrected_fractions(found, VALIDATION)[1])
    assert few.interval is not None


def test_intervals_hold_on_a_line_with_noise() -> None:
    """200 sections of ten fields, eight labelled fields redrawn for each: 95 % +- 3 standard errors of 1.5 %."""
    rng = np.random.default_rng(20261130)
    hits = 0
    for _ in range(200):
        true = rng.uniform(0.15, 0.85, 8)
        validation = _sample(true, 0.1 + 0.75 * true + rng.normal(0, 0.04, 8))
        found = 0.1 + 0.75 * rng.normal(0.35, 0.08, 10) + rng.normal(0, 0.04, 10)
        interval = corrected_fractions(_two(found), validation)[1].interval
        hits += interval is not None and interval[0] <= 0.35 <= interval[1]
    assert 0.904 <= hits / 200 <= 0.996


def test_intervals_hold_where_the_engine_hardly_responds() -> None:
    """Found 0.96 + 0.02 f with noise of 0.003: the ridge moves a slope of 0.02 by more than its scatter."""
    rng = np.random.default_rng(7)
    true = 0.15 + 0.7 * (np.arange(16) + 0.5) / 16
    held = 0
    for _ in range(60):
        validation = _sample(true, 0.96 + 0.02 * true + rng.normal(0, 0.003, 16))
        fields = np.clip(rng.normal(0.8, 0.05, 20), 0, 1)
        found = 0.96 + 0.02 * fields + rng.normal(0, 0.003, 20)
        interval = corrected_fractions(_two(found), validation)[1].interval
        assert interval is not None
        held += interval[0] <= 0.8 <= interval[1]
    assert held >= 56


def test_an_interval_holds_its_fraction_where_another_phase_is_cut_to_0() -> None:
    """What an absent third phase would have below 0 is taken from the other two, and their limits go with them."""
    rng = np.random.default_rng(secrets.randbits(32))
    true = rng.dirichlet([8.0, 8.0, 2.0], 12)
    found = true + np.array([-0.04, -0.04, 0.08]) + rng.normal(0, 0.0005, (12, 3)) @ (np.eye(3) - 1 / 3)
    labelled = ValidationSample(true, found, tuple(map(str, range(12))), np.full(12, np.inf))
    first = rng.normal(0.45, 0.003, 20)
    lot = np.column_stack([first, 0.997 - first, np.full(20, 0.003)])
    results = corrected_fractions(lot, labelled)
    assert results[2].corrected == 0, "the case occurs"
    for result in results:
        assert result.interval is not None and result.interval[0] <= result.corrected <= result.interval[1]
