"""Losses against their formulas; unlabelled pixels pull at nothing."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from microseg.core.domains.phases import UNLABELLED
from microseg.train.common.losses import core_of, cross_entropy, focal, segmentation_loss, soft_dice
from microseg.train.common.recipe import CrossEntropy

Loss = Callable[[Tensor, Tensor], Tensor]
LOSSES: dict[str, Loss] = {
    "cross_entropy": lambda logits, labels: cross_entropy(logits, labels, None),
    "weighted": lambda logits, labels: cross_entropy(logits, labels, torch.tensor([0.5, 1.0, 2.0])),
    "dice": soft_dice,
    "focal": partial(focal, gamma=2.0),
}


def sample() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 6, 5, generator=generator, requires_grad=True)
    labels = torch.randint(0, 3, (2, 6, 5), generator=generator)
    labels[:, 0] = UNLABELLED
    return logits, labels


@pytest.mark.parametrize("name", LOSSES)
def test_unlabelled_pixels_pull_at_nothing(name: str) -> None:
    logits, labels = sample()
    LOSSES[name](logits, labels).backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert not logits.grad[:, :, 0].any()
    assert logits.grad[:, :, 1:].any()


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_labels_has_a_finite_loss(name: str) -> None:
    logits, labels = sample()
    loss = LOSSES[name](logits, torch.full_like(labels, UNLABELLED))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert logits.grad is not None and not logits.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_the_truth_costs_least(name: str) -> None:
    logits, labels = sample()
    right = 20.0 * F.one_hot(labels.where(labels != UNLABELLED, 0), 3).movedim(-1, 1).float()
    assert LOSSES[name](right, labels) < 0.02 < LOSSES[name](logits, labels)


def test_cross_entropy_and_focal_are_torchs() -> None:
    logits, labels = sample()
    expected = F.cross_entropy(logits, labels, ignore_index=UNLABELLED)
    assert torch.isclose(cross_entropy(logits, labels, None), expected)
    assert torch.isclose(focal(logits, labels, 0.0), expected)
    weights = torch.tensor([0.5, 1.0, 2.0])
    assert torch.isclose(
        cross_entropy(logits, labels, weights), F.cross_entropy(logits, labels, weights, ignore_index=UNLABELLED)
    )


def test_the_core_is_centred() -> None:
    logits = torch.zeros(1, 2, 10, 10)
    logits[..., 3:7, 3:7] = 1
    assert core_of(logits, 4).shape == (1, 2, 4, 4)
    assert core_of(logits, 4).min() == 1


def test_one_labelled_pixel_counts_whatever_its_phase_weighs() -> None:
    """Of a scribble: its cross-entropy is the pixel's own, and no label gives no loss and no gradient."""
    logits = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.full((1, 8, 8), UNLABELLED)
    weights = torch.tensor([0.004, 1.0, 2.0])
    recipe = CrossEntropy(dice=0.5, balance=0.5)
    nothing = segmentation_loss(recipe, logits, labels, weights)
    nothing.backward()  # type: ignore[no-untyped-call]
    assert nothing.item() == 0 and logits.grad is not None and not logits.grad.any()
    labels[0, 2, 3] = 0
    of_pixel = -logits[0, :, 2, 3].log_softmax(0)[0]
    assert cross_entropy(logits, labels, weights).item() == pytest.approx(of_pixel.item(), rel=1e-5)
    loss = segmentation_loss(recipe, logits, labels, weights)
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss) and logits.grad[0, 0, 2, 3] < 0, "the pixel's phase becomes more probable"
    assert torch.count_nonzero(logits.grad.abs().sum(1)) == 1, "no other pixel is told anything"
