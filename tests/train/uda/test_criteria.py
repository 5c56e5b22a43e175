from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from microseg.train.uda.criteria import agreement, fold_agreement, observe, soft_neighbourhood_density, views

Image = NDArray[np.uint8]


def _threshold(image: Image) -> NDArray[np.float32]:
    bright = 1 / (1 + np.exp(-(image.astype(np.float32) - 128) / 4))
    return np.stack([1 - bright, bright]).astype(np.float32)


def _by_place(image: Image) -> NDArray[np.float32]:
    left = np.zeros(image.shape, np.float32)
    left[:, : image.shape[1] // 3] = 1
    return np.stack([left, 1 - left])


def _field(seed: int = 0, side: int = 96) -> Image:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 2, (side // 8, side // 8)) * 200 + 20
    return np.kron(coarse, np.ones((8, 8))).astype(np.uint8)


def test_what_looks_at_pixels_agrees_with_itself_and_what_looks_at_places_does_not() -> None:
    pixels, places = observe(_threshold, [_field()], 2), observe(_by_place, [_field()], 2)
    assert pixels.flips == 1
    assert places.flips < 0.8
    assert pixels.photometric > 0.9
    assert abs(sum(pixels.fractions) - 1) < 1e-9


def test_upright_fields_are_flipped_left_to_right_alone() -> None:
    def by_height(image: Image) -> NDArray[np.float32]:
        return np.moveaxis(_by_place(np.ascontiguousarray(image.T)), 1, 2)

    assert observe(by_height, [_field()], 2, upright=True).flips == 1
    assert observe(by_height, [_field()], 2).flips < 1


def test_certainty_and_information_of_a_guess_and_of_a_decision() -> None:
    def guess(image: Image) -> NDArray[np.float32]:
        return np.full((2, *image.shape), 0.5, np.float32)

    unsure, sure = observe(guess, [_field()], 2), observe(_threshold, [_field()], 2)
    assert unsure.certainty < 1e-6 < 0.9 < sure.certainty
    assert unsure.information < 1e-6 < 0.5 < sure.information


def test_density_is_highest_where_all_points_are_alike() -> None:
    rng = np.random.default_rng(0)
    alike, scattered = np.tile([0.9, 0.1], (300, 1)), rng.dirichlet([1, 1], 300)
    assert abs(soft_neighbourhood_density(alike)) < 1e-9
    assert soft_neighbourhood_density(scattered) < -0.01


def test_views_are_the_middles_of_a_few_fields_on_the_stride() -> None:
    images = [np.full((700, 500), grey, np.uint8) for grey in range(9)]
    cuts = views(images, 32)
    assert [int(cut[0, 0]) for cut in cuts] == [0, 3, 5, 8]
    assert {cut.shape for cut in cuts} == {(448, 448)}
    assert views([np.zeros((20, 50), np.uint8)], 32)[0].shape == (32, 32)


def test_agreement_falls_with_a_rare_phase_that_comes_and_goes() -> None:
    labels = np.zeros((100, 100), np.uint8)
    with_rare = labels.copy()
    with_rare[:1, :50] = 1
    from microseg.core.evaluation.metrics import confusion_matrix

    assert agreement([confusion_matrix(with_rare, labels, 2)]) < 0.51
    assert fold_agreement([[labels], [labels]], 2) == 1
    assert fold_agreement([[labels], [with_rare]], 2) < 0.51
