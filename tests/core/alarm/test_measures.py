"""Measures of a field without labels."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.core.alarm.measures import FieldMeasures, FieldProbe

Picture = NDArray[np.uint8]

RNG = np.random.default_rng(3)
PIXELS = RNG.integers(60, 200, (128, 128), np.uint8)
LABELS = np.zeros((128, 128), np.uint8)
LABELS[:, 64:] = 1


def _values(pixels: Picture = PIXELS, votes: Picture | None = None) -> FieldMeasures:
    probe = FieldProbe(2, 2)
    votes = np.stack([LABELS, LABELS]) if votes is None else votes
    probe.add(pixels, LABELS, votes, np.ones((2, 3), np.float32))
    return _measures(probe)


def _measures(probe: FieldProbe) -> FieldMeasures:
    found = probe.measures()
    assert found is not None
    return found


def test_folds_that_differ_in_a_quarter_have_the_dice_of_that_quarter() -> None:
    other = LABELS.copy()
    other[:, 32:64] = 1
    found = _values(votes=np.stack([LABELS, other])).values
    # First phase: 2 * 1/4 / (1/2 + 1/4); second phase: 2 * 1/2 / (1/2 + 3/4).
    dice = (2 / 3 + 4 / 5) / 2
    assert np.exp(found["pairwise_dice"]) == pytest.approx(1 - dice, abs=1e-9)
    assert np.exp(found["unsure"]) == pytest.approx(0.25)
    assert np.exp(found["fold_spread"]) == pytest.approx(np.std([0.5, 0.75], ddof=1))


def test_fractions_greys_and_borders_of_a_field() -> None:
    found = _values()
    assert found.fractions.tolist() == [0.5, 0.5]
    assert found.values["grey_mean"] == pytest.approx(PIXELS.mean())
    assert np.exp(found.values["grey_std"]) == pytest.approx(PIXELS.std())
    assert np.exp(found.values["borders"]) == pytest.approx(128 / 128**2)


def test_a_blur_weakens_the_finest_band_most() -> None:
    change = {
        name: value - _values().values[name]
        for name, value in _values(np.asarray(cv2.GaussianBlur(PIXELS, (0, 0), 1.0), np.uint8)).values.items()
    }
    assert change["band_0"] < change["band_2"] < 0


def test_tiles_add_up_to_the_field() -> None:
    whole, parts = _values(), FieldProbe(2, 2)
    for cut in (slice(0, 64), slice(64, 128)):
        parts.add(PIXELS[cut], LABELS[cut], np.stack([LABELS, LABELS])[:, cut], np.ones((2, 3), np.float32))
    found = _measures(parts)
    assert found.pixels == whole.pixels
    for name in ("grey_mean", "grey_std", "unsure", "pairwise_dice"):
        assert found.values[name] == pytest.approx(whole.values[name])


def test_a_field_too_small_for_its_structure_tells_nothing() -> None:
    tiny = np.zeros((16, 16), np.uint8)
    probe = FieldProbe(2, 1)
    probe.add(tiny, tiny, tiny[None], None)
    assert probe.measures() is None


def test_folds_are_compared_where_every_phase_has_few_pixels() -> None:
    phases, side = 8, 34
    labels = (np.arange(side * side).reshape(side, side) % phases).astype(np.uint8)
    probe = FieldProbe(phases, 2)
    probe.add(PIXELS[:side, :side], labels, np.stack([labels, labels]), None)
    assert np.exp(_measures(probe).values["pairwise_dice"]) == pytest.approx(
        1e-3
    )  # the least of a logarithm: all agree
