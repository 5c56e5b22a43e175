"""The estimate from audited fields against what is known exactly, and against simulated lots."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.statistics.astm_e562 import phase_statistics
from microseg.core.statistics.audit import (
    AUDITED,
    AuditSample,
    audited_fractions,
    audited_together,
    least_correlation,
)
from microseg.core.statistics.audit_draw import audit_order, systematic_positions
from microseg.core.statistics.corrected import KnownUncertainty
from microseg.core.statistics.sampling import BETWEEN, SAMPLING
from microseg.core.statistics.student import t_quantile_975
from microseg.core.statistics.validation_sample import count_covariance


def _both(fractions: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([1 - fractions, fractions], 1)


def _sample(
    true: NDArray[np.float64], found: NDArray[np.float64], drawn: NDArray[np.int64], points: float = math.inf
) -> AuditSample:
    return AuditSample(_both(true[drawn]), _both(found[drawn]), _both(found), np.full(len(drawn), points))


def test_all_fields_audited_are_astm_e562() -> None:
    true = np.array([0.31, 0.35, 0.28, 0.40, 0.33])
    result = audited_fractions(_sample(true, true**2, np.arange(5)))[1]
    e562 = phase_statistics(true.tolist(), [1] * 5, [2] * 5, [[]] * 5)
    assert e562.mean is not None and e562.ci95 is not None
    assert result.fraction == pytest.approx(e562.mean)
    assert result.weight == 0
    assert result.interval == pytest.approx((e562.mean - e562.ci95, e562.mean + e562.ci95))
    assert result.lot_interval == pytest.approx((e562.mean, e562.mean))  # the mean of these fields is known


def test_predictions_that_do_not_help_are_left_out() -> None:
    """The interval is that of ASTM E562 from the audited fields; the lot's has the finite population correction."""
    rng = np.random.default_rng(1)
    true = np.array([0.30, 0.42, 0.35, 0.28, 0.39, 0.33, 0.31, 0.40])
    found = np.concatenate([[0.5, 0.4, 0.5, 0.4, 0.5, 0.4, 0.5, 0.4], rng.uniform(0.4, 0.5, 52)])
    result = audited_fractions(_sample(np.pad(true, (0, 52)), found, np.arange(8)))[1]
    assert result.correlation is not None and result.correlation < least_correlation(8)
    half = t_quantile_975(7) * true.std(ddof=1) / math.sqrt(8)
    assert result.interval == pytest.approx((true.mean() - half, true.mean() + half))
    left = half * math.sqrt(1 - 8 / 60)
    assert result.lot_interval == pytest.approx((true.mean() - left, true.mean() + left))


def test_an_exact_line_leaves_the_sampling_and_fields_that_may_be_found_wrong() -> None:
    """None of six audited fields is found wrong: one of eight may be (rule of succession)."""
    rng = np.random.default_rng(2)
    true, drawn = rng.uniform(0.2, 0.5, 60), np.array([3, 8, 20, 33, 41, 59])
    result = audited_fractions(_sample(true, 0.1 + 0.7 * true, drawn))[1]
    assert result.fraction == pytest.approx(true.mean())
    assert result.weight == pytest.approx(1 / 0.7)
    unseen = true[drawn].var(ddof=1) / 8
    assert [row.term for row in result.budget] == [AUDITED, SAMPLING]
    values = [math.sqrt(unseen / 6), true.std(ddof=1) / math.sqrt(60)]
    assert [row.value for row in result.budget] == pytest.approx(values)
    # Four degrees of freedom, less what long tails take (O'Neill 2014).
    assert result.budget[0].degrees == pytest.approx(1 / (1 / 4 + 0.6 / 12))
    half = t_quantile_975(result.budget[0].degrees) * math.sqrt(unseen / 6 * (1 - 6 / 60))
    assert result.lot_interval == pytest.approx((true.mean() - half, true.mean() + half))


def test_each_weight_is_the_slope_without_its_own_field() -> None:
    true = np.array([0.30, 0.42, 0.35, 0.28, 0.50])
    found = np.array([0.25, 0.45, 0.30, 0.26, 0.44, 0.6, 0.2])
    slopes = []
    for index in range(5):
        x, y = np.delete(true, index), np.delete(found[:5], index)
        slopes.append(np.polyfit(y, x, 1)[0])
    result = audited_fractions(_sample(np.pad(true, (0, 2)), found, np.arange(5)))[1]
    differences = true - np.array(slopes) * (found[:5] - found.mean())
    assert result.fraction == pytest.approx(differences.mean())
    about_line = differences.var(ddof=1)
    spread = about_line + (true.var(ddof=1) - about_line) / 7
    assert result.budget[0].value == pytest.approx(math.sqrt(spread / 5))
    assert result.budget[0].degrees == pytest.approx(1 / (1 / 3 + 0.6 / 10))


def test_correlation_from_which_predictions_help() -> None:
    """arXiv 2505.20178: 0.41 for eight labelled fields."""
    assert least_correlation(8) == pytest.approx(0.408, abs=5e-4)
    assert least_correlation(3) == math.inf


def test_equal_counts_keep_the_noise_of_their_points() -> None:
    counted = np.full(6, 0.25)
    found = np.linspace(0.2, 0.3, 30)
    result = audited_fractions(_sample(np.pad(counted, (0, 24)), found, np.arange(6), points=100))[1]
    variance = count_covariance(np.array([0.75, 0.25]), 100)[1, 1]
    assert result.budget[0].value == pytest.approx(math.sqrt(variance / 6))
    assert result.lot_interval is not None and result.lot_interval[1] > 0.25


def test_what_nobody_saw_is_not_claimed() -> None:
    found = np.linspace(0.0, 0.1, 20)
    absent = np.zeros(20)
    masks = audited_fractions(_sample(absent, found, np.arange(5)))[1]
    assert (masks.interval, masks.withheld) == (None, "the audited fields hold one phase alone")
    counts = audited_fractions(_sample(absent, found, np.arange(5), points=100))[1]
    assert counts.interval is not None and 0 < counts.interval[1] < 0.05
    assert audited_fractions(_sample(absent, found, np.arange(1)))[1].withheld == "one audited field"


def test_fractions_of_three_phases_add_up() -> None:
    rng = np.random.default_rng(3)
    true = rng.dirichlet([5, 3, 2], 40)
    found = 0.8 * true + 0.2 * rng.dirichlet([5, 3, 2], 40)
    results = audited_fractions(AuditSample(true[:8], found[:8], found, np.full(8, math.inf)))
    assert sum(result.fraction for result in results) == pytest.approx(1)


def test_sections_together_are_weighted_by_their_fields() -> None:
    rng = np.random.default_rng(4)
    samples, means = [], []
    for level, fields in ((0.3, 30), (0.31, 10)):
        true = rng.normal(level, 0.05, fields)
        samples.append(_sample(true, true, np.arange(0, fields, 3)))
        means.append(true.mean())
    result = audited_together(samples)[1]
    assert result.fraction == pytest.approx((30 * means[0] + 10 * means[1]) / 40, abs=1e-9)
    assert (result.drawn, result.fields) == (14, 40)
    near = samples[1]
    away = [_both(each[:, 1] + 0.4) for each in (near.true, near.found, near.all_found)]
    far = [samples[0], AuditSample(away[0], away[1], away[2], near.points)]
    terms = {row.term: row for row in audited_together(far)[1].budget}
    assert BETWEEN in terms and terms[BETWEEN].share > 0.9


def test_terms_from_elsewhere_widen_the_interval() -> None:
    true = np.array([0.31, 0.35, 0.28, 0.40, 0.33])
    sample = _sample(true, true, np.arange(5))
    narrow, wide = (
        audited_fractions(sample, known)[1] for known in ((), (KnownUncertainty("annotators", (0.1, 0.1)),))
    )
    assert narrow.interval is not None and wide.interval is not None
    assert wide.interval[1] - wide.interval[0] > 1.5 * (narrow.interval[1] - narrow.interval[0])


def test_wrong_shapes_are_refused() -> None:
    fractions = _both(np.array([0.1, 0.2]))
    with pytest.raises(ValueError, match="audited fractions"):
        audited_fractions(AuditSample(fractions, fractions[:1], fractions, np.full(2, math.inf)))
    with pytest.raises(ValueError, match="of all fields"):
        audited_fractions(AuditSample(fractions, fractions, fractions[:1], np.full(2, math.inf)))


@pytest.mark.parametrize(("noise", "points"), [(0.02, 0), (0.07, 0), (0.02, 100)])
def test_interval_holds_and_is_narrower_than_labels_alone(noise: float, points: int) -> None:
    """Lots of 60 fields of a section with a mean of 0.35, found with an offset and a slope; eight fields are audited."""
    rng = np.random.default_rng(5)
    holds, width, alone = [], [], []
    for _ in range(150):
        true = rng.normal(0.35, 0.08, 60).clip(0, 1)
        found = (0.75 * true - 0.02 + rng.normal(0, noise, 60)).clip(0, 1)
        drawn = audit_order(_both(found))[systematic_positions(60, 8, rng.random())]
        seen = rng.binomial(points, true) / points if points else true
        low, high = audited_fractions(_sample(seen, found, drawn, points or math.inf))[1].interval or (0, 0)
        holds.append(low <= 0.35 <= high)
        width.append(high - low)
        alone.append(2 * t_quantile_975(7) * seen[drawn].std(ddof=1) / math.sqrt(8))
    assert np.mean(holds) > 0.9
    assert np.mean(width) < 0.95 * np.mean(alone)
