from __future__ import annotations

from typing import Literal

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from microseg.models.discriminator import Discriminator
from microseg.train.uda.discriminators import adversarial_backward, attention


def _trunk_and_heads(heads: int) -> nn.ModuleList:
    torch.manual_seed(1)
    return nn.ModuleList([nn.Conv2d(1, 4, 3, padding=1), *(nn.Conv2d(4, 2, 1) for _ in range(heads))])


@pytest.mark.parametrize("loss", ["bce", "least_squares"])
@pytest.mark.parametrize("heads", [1, 2])
def test_gradients_are_those_of_the_published_sequence(heads: int, loss: Literal["bce", "least_squares"]) -> None:
    source, target = torch.rand(2, 1, 64, 64), torch.rand(2, 1, 64, 64)
    weights = (0.1, 0.02)[:heads]
    judge = F.binary_cross_entropy_with_logits if loss == "bce" else F.mse_loss
    found: list[list[torch.Tensor]] = []
    for ours in (False, True):
        network = _trunk_and_heads(heads)
        torch.manual_seed(2)
        critics = [Discriminator(2) for _ in range(heads)]
        trunk = F.relu(network[0](target))
        maps = [head(trunk).softmax(1) for head in list(network)[1:]]
        with torch.no_grad():
            of_source = [head(F.relu(network[0](source))).softmax(1) for head in list(network)[1:]]
        if ours:
            adversarial_backward(critics, of_source, maps, weights, loss)
        else:
            for critic in critics:
                critic.requires_grad_(False)
            fooled = [judge(c(m), torch.zeros_like(c(m))) for c, m in zip(critics, maps, strict=True)]
            sum(w * f for w, f in zip(weights, fooled, strict=True)).backward()  # type: ignore[union-attr]
            for critic, mine, other in zip(critics, of_source, maps, strict=True):
                critic.requires_grad_(True)
                for pixels, label in ((mine, 0.0), (other.detach(), 1.0)):
                    logits = critic(pixels)
                    (judge(logits, torch.full_like(logits, label)) / 2).backward()  # type: ignore[no-untyped-call]
        modules = [network, *critics]
        found.append([p.grad.clone() for m in modules for p in m.parameters() if p.grad is not None])
    assert len(found[0]) == len(found[1]) == 2 + 2 * heads + 10 * heads
    for published, own in zip(*found, strict=True):
        assert torch.allclose(published, own, rtol=1e-4, atol=1e-8)


def test_weights_of_zero_leave_the_network_alone_while_discriminators_learn() -> None:
    network = _trunk_and_heads(1)
    critic = Discriminator(2)
    maps = network[1](F.relu(network[0](torch.rand(1, 1, 64, 64)))).softmax(1)
    adversarial_backward([critic], [maps.detach()], [maps], [0.0], "bce")
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(parameter.grad is not None for parameter in critic.parameters())


def test_attention_is_a_map_of_the_tile() -> None:
    seen = attention(Discriminator(3), torch.rand(2, 3, 64, 96), "bce")
    assert seen.shape == (2, 64, 96)
    assert 0 <= float(seen.min()) <= float(seen.max()) <= 1


@pytest.mark.parametrize(("loss", "sure"), [("bce", 9.0), ("least_squares", 1.0)])
def test_attention_is_all_where_the_target_is_told_and_nothing_where_not(
    loss: Literal["bce", "least_squares"], sure: float
) -> None:
    no = -sure if loss == "bce" else 0.0
    seen = attention(lambda maps: torch.tensor([[[[sure, sure, no, no]]]]), torch.zeros(1, 2, 1, 4), loss)
    assert torch.allclose(seen[0, 0], torch.tensor([1.0, 1.0, 0.0, 0.0]), atol=1e-3)
