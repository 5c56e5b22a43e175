"""Layers are told from structures without orientation."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.domains.fingerprint.chords import Chords, chords_of
from microseg.core.domains.fingerprint.layers import Direction, direction_of, orientation_of


def both(labels: NDArray[np.uint8], phases: int = 2) -> tuple[Direction, Direction]:
    chords = [sum_of(labels, phases), sum_of(labels.T, phases)]
    return direction_of(labels, phases, chords), direction_of(labels.T, phases, chords)


def sum_of(labels: NDArray[np.uint8], phases: int) -> Chords:
    whole, cut = chords_of(labels, phases)
    return whole + cut


def layers(seed: int) -> NDArray[np.uint8]:
    """A wavy layer of phase 1 in phase 0."""
    rng = np.random.default_rng(seed)
    middle = 60 + 10 * np.sin(np.arange(200) / 20 + seed) + rng.normal(size=200)
    return (np.abs(np.arange(120)[:, None] - middle) < 20).astype(np.uint8)


def blobs(seed: int, size_px: float) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).normal(size=(128, 128)).astype(np.float32)
    return (cv2.GaussianBlur(noise, (0, 0), size_px) > 0).astype(np.uint8)


def test_layers_in_one_order() -> None:
    found = orientation_of([both(layers(seed)) for seed in range(4)])
    assert found.is_layered and found.by_row > 0.6 and found.by_column < 0.05
    turned = orientation_of([both(layers(seed).T) for seed in range(4)])
    assert turned.is_layered and turned.by_column > 0.6 and turned.by_row < 0.05


@pytest.mark.parametrize("size_px", [2, 6, 12])
def test_coarse_structures_vary_between_rows_by_chance(size_px: float) -> None:
    found = orientation_of([both(blobs(seed, size_px)) for seed in range(6)])
    assert not found.is_layered
    assert max(found.by_row, found.by_column) < 0.15


def test_layers_in_another_order_in_every_field_are_no_orientation() -> None:
    ground = np.repeat(np.array([0, 1, 2], np.uint8), 20)[:, None].repeat(50, 1)
    orders = [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)]
    fields = [np.array(order, np.uint8)[ground] for order in orders]
    found = orientation_of([both(field, 3) for field in fields])
    assert found.by_row == pytest.approx(1) and not found.is_layered


def test_one_phase_alone_has_no_orientation() -> None:
    found = orientation_of([both(np.zeros((20, 30), np.uint8)), both(np.full((20, 30), 255, np.uint8))])
    assert (found.by_row, found.by_column, found.is_layered) == (0, 0, False)
