from __future__ import annotations

import torch

from microseg.train.common.self_training.pseudo_labels import pixel_weights
from microseg.train.uda.losses import (
    class_mix,
    coded,
    decoded,
    domain_loss,
    entropy_maps,
    mean_entropy,
    robust_entropy,
    swap_amplitude,
    thresholds_by_phase,
)


def _maps(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).view(1, -1, 1, 1)


def test_entropy_is_one_for_a_guess_and_zero_for_certainty() -> None:
    assert mean_entropy(_maps(1 / 3, 1 / 3, 1 / 3)).item() == torch.tensor(1.0)
    assert mean_entropy(_maps(1.0, 0.0, 0.0)).item() < 1e-6
    assert entropy_maps(_maps(0.5, 0.5)).shape == (1, 2, 1, 1)


def test_robust_entropy_gives_sure_pixels_less_than_their_share() -> None:
    sure, unsure = robust_entropy(_maps(0.95, 0.05), 2.0), robust_entropy(_maps(0.5, 0.5), 2.0)
    assert float(sure / unsure) < float(mean_entropy(_maps(0.95, 0.05)))


def test_domain_losses_are_smallest_at_their_label() -> None:
    low, high = torch.full((1, 1, 2, 2), -9.0), torch.full((1, 1, 2, 2), 9.0)
    assert domain_loss(low, 0.0, "bce") < 1e-3 < domain_loss(high, 0.0, "bce")
    assert domain_loss(torch.ones(1, 1, 2, 2), 1.0, "least_squares") == 0


def test_swapping_with_itself_changes_nothing_and_else_takes_over_the_mean_alone() -> None:
    generator = torch.Generator().manual_seed(0)
    source = torch.rand((2, 1, 32, 32), generator=generator) * 100 + 60
    target = torch.rand((2, 1, 32, 32), generator=generator) * 20 + 120
    assert torch.allclose(swap_amplitude(source, source, 0.1), source, atol=1e-2)
    # beta below one pixel swaps the mean alone.
    restyled = swap_amplitude(source, target, 0.01)
    assert torch.allclose(restyled.mean((2, 3)), target.mean((2, 3)), atol=0.1)
    contrast = restyled - restyled.mean((2, 3), keepdim=True)
    assert torch.allclose(contrast, source - source.mean((2, 3), keepdim=True), atol=0.1)


def test_class_mix_takes_half_of_the_phases_whole_and_never_unlabelled_pixels() -> None:
    labels = torch.tensor([[[0, 0, 1], [1, 255, 255]]])
    masks = {tuple(class_mix(labels, 2, torch.Generator().manual_seed(s))[0].flatten().tolist()) for s in range(20)}
    assert masks == {(True, True, False, False, False, False), (False, False, True, True, False, False)}


def test_a_phase_that_the_teacher_is_less_sure_of_has_a_lower_threshold() -> None:
    labels = torch.tensor([[[0, 0], [0, 1]]])
    confidence = torch.tensor([[[1.0, 1.0], [0.99, 0.6]]])
    found = thresholds_by_phase(labels, confidence, 3, 0.95)
    assert torch.allclose(found, torch.tensor([[[0.95, 0.95], [0.95, 0.6]]]))
    weights = pixel_weights(confidence, found, 3, "pixel")
    assert torch.allclose(weights, torch.ones(1, 2, 2))
    assert float(pixel_weights(confidence, 0.95, 3, "pixel")[0, 1, 1]) < 0.5


def test_labels_and_confidence_share_a_map_and_come_back() -> None:
    labels = torch.tensor([[0, 1, 2, 2]])
    confidence = torch.tensor([[1 / 3, 0.6, 0.95, 1.0]])
    codes = coded(labels, confidence, 3)
    assert codes.dtype == torch.uint8 and int(codes.max()) < 255
    found, sure = decoded(codes, 3)
    assert torch.equal(found, labels) and torch.allclose(sure, confidence, atol=0.005)
