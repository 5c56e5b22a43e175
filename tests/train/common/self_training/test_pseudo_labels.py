"""Pseudo-labels: what they are, how much each counts, and the tiles that they are learned on."""

from __future__ import annotations

import math

import torch

from microseg.train.common.self_training.pseudo_labels import (
    hide_patches,
    pixel_weights,
    pseudo_labels,
    relighting,
    weighted_cross_entropy,
)


def _maps(*probabilities: float) -> torch.Tensor:
    return torch.tensor(probabilities).view(1, -1, 1, 1)


def test_dividing_by_phase_weights_takes_back_what_they_inflated() -> None:
    labels, confidence = pseudo_labels(_maps(0.4, 0.6), torch.tensor([0.5, 1.5]))
    assert labels.item() == 0
    assert math.isclose(confidence.item(), 0.8 / 1.2, rel_tol=1e-5)
    assert pseudo_labels(_maps(0.4, 0.6), None)[0].item() == 1


def test_pixels_weigh_by_their_confidence_and_images_by_their_share_of_sure_ones() -> None:
    confidence = torch.tensor([[[0.5, 0.75], [0.95, 1.0]]])
    weights = pixel_weights(confidence, 0.95, 2, "pixel")
    assert torch.allclose(weights, torch.tensor([[[0.0, 0.5556], [1.0, 1.0]]]), atol=1e-3)
    assert torch.all(pixel_weights(confidence, 0.95, 2, "image") == 0.5)


def test_weighted_cross_entropy_leaves_out_what_has_no_weight_or_no_label() -> None:
    logits = torch.zeros(1, 2, 1, 3)
    loss = weighted_cross_entropy(logits, torch.tensor([[[0, 1, 255]]]), torch.tensor([[[1.0, 0.0, 1.0]]]))
    assert math.isclose(float(loss), math.log(2) / 2, rel_tol=1e-6)


def test_hidden_patches_are_whole_and_as_many_as_asked() -> None:
    tiles = torch.rand((4, 1, 100, 100)) * 255
    hidden = hide_patches(tiles, 0.7, 16, torch.Generator().manual_seed(1))
    changed = (hidden != tiles).float()
    assert 0.55 < float(changed.mean()) < 0.85
    block = changed[0, 0, :16, :16]
    assert block.min() == block.max()


def test_relighting_is_drawn_by_its_seed_and_can_be_off() -> None:
    tiles = torch.rand(2, 1, 48, 48) * 255
    assert torch.equal(relighting(0.0, 1)(tiles), tiles)
    assert torch.equal(relighting(1.0, 1)(tiles), relighting(1.0, 1)(tiles))
    assert not torch.equal(relighting(1.0, 1)(tiles), relighting(1.0, 2)(tiles))
