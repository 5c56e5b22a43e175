"""Inversion of a response on the simplex."""

from __future__ import annotations

import numpy as np
import pytest

from microseg.core.statistics.simplex import project_on_simplex, solve_on_simplex


@pytest.mark.parametrize(
    ("apparent", "sensitivity", "specificity"), [(0.3, 0.9, 0.95), (0.5, 0.75, 0.6), (0.8, 0.85, 0.99)]
)
def test_two_phases_are_rogan_and_gladen_1978(apparent: float, sensitivity: float, specificity: float) -> None:
    """Their equation of the true prevalence: (apparent + specificity - 1) / (sensitivity + specificity - 1)."""
    matrix = np.array([[specificity, 1 - sensitivity], [1 - specificity, sensitivity]])
    true = solve_on_simplex(matrix, np.array([1 - apparent, apparent]))
    expected = (apparent + specificity - 1) / (sensitivity + specificity - 1)
    np.testing.assert_allclose(true, [1 - expected, expected], atol=1e-9)


def test_fewer_false_positives_than_the_response_has_are_a_fraction_of_0() -> None:
    """Rogan and Gladen 1978: an apparent prevalence below 1 - specificity gives a negative one, which is 0."""
    matrix = np.array([[0.9, 0.2], [0.1, 0.8]])
    np.testing.assert_allclose(solve_on_simplex(matrix, np.array([0.95, 0.05])), [1, 0], atol=1e-9)


def test_three_phases_on_the_edge_equal_a_search() -> None:
    matrix = np.array([[0.8, 0.1, 0.3], [0.15, 0.8, 0.3], [0.05, 0.1, 0.4]])
    found = np.array([0.55, 0.44, 0.01])
    side = np.linspace(0, 1, 501)
    first, second = np.meshgrid(side, side)
    inside = first + second <= 1
    points = np.stack([first[inside], second[inside], 1 - first[inside] - second[inside]])
    best = points[:, ((matrix @ points - found[:, None]) ** 2).sum(0).argmin()]
    np.testing.assert_allclose(solve_on_simplex(matrix, found), best, atol=0.003)


def test_an_engine_that_finds_the_same_whatever_is_there_gives_fractions() -> None:
    true = solve_on_simplex(np.array([[0.2, 0.2], [0.8, 0.8]]), np.array([0.1, 0.9]))
    assert true.min() >= 0 and true.sum() == pytest.approx(1)


def test_projection_on_the_simplex() -> None:
    np.testing.assert_allclose(project_on_simplex(np.array([0.5, 1.5, -1.0])), [0, 1, 0])
    np.testing.assert_allclose(project_on_simplex(np.array([0.6, 0.6])), [0.5, 0.5])
