"""Labelled fields as the statistics read them."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from microseg.core.statistics.validation_sample import count_covariance, from_confusions, from_point_counts, joined


def test_confusions_give_true_and_found_fractions() -> None:
    sample = from_confusions(np.array([[[60, 10], [5, 25]], [[0, 0], [20, 180]]]), ["a", "b"])
    np.testing.assert_allclose(sample.true, [[0.7, 0.3], [0.0, 1.0]])
    np.testing.assert_allclose(sample.found, [[0.65, 0.35], [0.1, 0.9]])
    assert sample.groups == ("a", "b") and len(sample) == 2
    assert np.isinf(sample.points).all()


def test_fields_without_labels_and_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="field 1 has no labelled pixel"):
        from_confusions(np.array([[[1, 0], [0, 1]], [[0, 0], [0, 0]]]), ["a", "b"])
    with pytest.raises(ValueError, match="1 groups"):
        from_confusions(np.ones((2, 2, 2), np.int64), ["a"])
    with pytest.raises(ValueError, match="shape"):
        from_confusions(np.ones((2, 2), np.int64), ["a", "b"])


def test_point_counts() -> None:
    sample = from_point_counts(np.array([[30.5, 69.5]]), np.array([100.0]), np.array([[0.28, 0.72]]), ["a"])
    np.testing.assert_allclose(sample.true, [[0.305, 0.695]])
    both = joined([sample, from_confusions(np.array([[[1, 0], [0, 1]]]), ["b"])])
    assert len(both) == 2 and both.groups == ("a", "b")
    assert both.points.tolist() == [100, math.inf]
    assert not both.at_home and joined([replace(each, at_home=True) for each in (sample, both)]).at_home


def test_counts_that_do_not_add_up_are_refused() -> None:
    with pytest.raises(ValueError, match="do not add up"):
        from_point_counts(np.array([[30.0, 60.0]]), np.array([100.0]), np.array([[0.3, 0.7]]), ["a"])
    with pytest.raises(ValueError, match="found fractions of shape"):
        from_point_counts(np.array([[30.0, 70.0]]), np.array([100.0]), np.array([[0.3, 0.6, 0.1]]), ["a"])


def test_variance_of_point_counts_is_agresti_and_coull_1998() -> None:
    """Their 95 % interval of 0 successes in 10: centre 2 / 14, half width 1.96 sqrt(p (1 - p) / 14) = 0.183."""
    covariance = count_covariance(np.array([0.0, 1.0]), 10.0)
    np.testing.assert_allclose(1.96 * np.sqrt(np.diag(covariance)), [0.1833, 0.1833], atol=1e-4)
    np.testing.assert_allclose(covariance.sum(1), 0, atol=1e-15)
    assert not count_covariance(np.array([0.3, 0.7]), math.inf).any()
