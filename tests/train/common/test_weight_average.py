from __future__ import annotations

import pytest
import torch
from torch import nn

from microseg.train.common.weight_average import WeightAverage


def _network(value: float) -> nn.BatchNorm2d:
    network = nn.BatchNorm2d(2)
    for tensor in network.state_dict().values():
        tensor.fill_(value)
    return network


def test_the_average_follows_fast_at_first_and_then_by_the_decay() -> None:
    average = WeightAverage.of(_network(0.0), 0.5)
    average.update(_network(1.0), 0)  # keeps a tenth
    assert torch.allclose(average.state["weight"], torch.tensor([0.9, 0.9]))
    average.update(_network(0.0), 1000)
    assert torch.allclose(average.state["weight"], torch.tensor([0.45, 0.45]))
    assert average.state["num_batches_tracked"] == 0, "counts are copied, not averaged"


def test_without_decay_it_is_the_network() -> None:
    average = WeightAverage.of(_network(0.0), 0.0)
    average.update(_network(3.0), 1000)
    assert torch.equal(average.state["running_var"], torch.tensor([3.0, 3.0]))


def test_the_network_gets_its_own_weights_back_also_after_an_error() -> None:
    network = _network(1.0)
    average = WeightAverage.of(_network(0.5), 0.9)
    seen = []

    def fails() -> None:
        with average.loaded_into(network):
            seen.append(network.weight.detach().clone())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert torch.equal(seen[0], torch.tensor([0.5, 0.5]))
    assert torch.equal(network.weight, torch.tensor([1.0, 1.0]))
