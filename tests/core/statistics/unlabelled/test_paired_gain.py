from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats

from microseg.core.statistics.unlabelled.paired_gain import paired_gain


def _table(fields: list[float], folds: list[float]) -> np.ndarray:
    """Gains without any interaction."""
    return np.asarray(np.array(fields)[:, None] + np.array(folds), np.float64)


def test_fields_and_folds_give_min_f() -> None:
    """Clark (1973): min F' = F1 F2 / (F1 + F2), with (F1 + F2)^2 / (F1^2 / n2 + F2^2 / n1) degrees of freedom."""
    # Deviations of 8 fields and 7 folds about a mean gain of 1 for which F = mean^2 / (variance / n) is 7.41 and 2.17.
    first, second = np.linspace(-1, 1, 8), np.linspace(-1, 1, 7)
    first *= math.sqrt(8 / 7.41 / first.var(ddof=1))
    second *= math.sqrt(7 / 2.17 / second.var(ddof=1))
    found = paired_gain(1 + _table(first.tolist(), second.tolist()))
    assert found is not None and found.mean == pytest.approx(1)
    assert (found.mean / found.standard_error) ** 2 == pytest.approx(7.41 * 2.17 / (7.41 + 2.17))
    assert found.degrees == pytest.approx((7.41 + 2.17) ** 2 / (7.41**2 / 6 + 2.17**2 / 7))
    assert found.p == pytest.approx(scipy.stats.t.sf(math.sqrt(7.41 * 2.17 / 9.58), found.degrees))


def test_one_fold_is_the_paired_t_test() -> None:
    """Student (1908), the additional hours of sleep: t = 4.0621 with 9 degrees of freedom, one-sided p = 0.0014."""
    hours = np.array([1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4])
    found = paired_gain(hours[:, None])
    assert found is not None
    assert found.mean / found.standard_error == pytest.approx(4.0621, abs=1e-4)
    assert found.degrees == 9
    assert found.p == pytest.approx(0.001416, abs=1e-6)
    lost = paired_gain(-hours[:, None])
    assert lost is not None and lost.p == pytest.approx(1 - found.p)


def test_few_fields_prove_little_and_one_nothing() -> None:
    assert paired_gain(np.full((1, 5), 0.1)) is None
    two = paired_gain(np.array([[0.09], [0.11]]))
    assert two is not None and two.degrees == 1 and two.p == pytest.approx(math.atan(0.1) / math.pi)
    alike, none = paired_gain(np.full((3, 2), 0.125)), paired_gain(np.zeros((3, 2)))
    assert alike is not None and none is not None and (alike.p, none.p) == (0, 1)
    for bad in (np.zeros(3), np.array([[math.nan], [0.0]]), np.zeros((0, 2))):
        with pytest.raises(ValueError, match="fields x folds"):
            paired_gain(bad)


def test_where_there_is_no_gain_the_test_finds_one_in_twenty_at_most() -> None:
    """Fields and folds vary, as does each value. Of 800 draws 5 % are found, or fewer; three standard deviations are 2.3 %."""
    rng = np.random.default_rng(np.random.SeedSequence().entropy)
    found = []
    for _ in range(800):
        table = rng.normal(size=(5, 1)) + rng.normal(size=(1, 5)) + rng.normal(size=(5, 5))
        test = paired_gain(table)
        assert test is not None
        found.append(test.p <= 0.05)
    assert np.mean(found) < 0.073
