"""The guarded step, by a small network in fp32 and in an fp16 that is pretended."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from microseg.core.errors import TrainingError
from microseg.train.common import optimiser_step
from microseg.train.common.optimiser_step import OptimiserStep, reduced_precision

CPU = torch.device("cpu")


def _step(tmp_path: Path, mixed_precision: bool = True) -> tuple[nn.Linear, OptimiserStep]:
    torch.manual_seed(0)
    network = nn.Linear(3, 1)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    return network, OptimiserStep(optimiser, CPU, tmp_path, mixed_precision=mixed_precision)


def test_a_step_is_the_optimisers_at_the_factor_of_the_rate(tmp_path: Path) -> None:
    network, update = _step(tmp_path)
    before = network.weight.detach().clone()
    for _ in range(2):  # gradients of the first are cleared
        update.begin(0.5)
        network.weight.data.copy_(before)
        update.backward(network(torch.ones(1, 3)).sum())
        update.finish(1.0, 1, 0)
    assert torch.allclose(before - network.weight, torch.full((1, 3), 0.05))


def test_gradients_of_several_losses_add_up(tmp_path: Path) -> None:
    network, update = _step(tmp_path)
    update.begin()
    update.backward(network(torch.ones(1, 3)).sum())
    update.backward(2 * network(torch.ones(1, 3)).sum(), [network.weight])
    assert network.weight.grad is not None and network.bias.grad is not None
    assert torch.equal(network.weight.grad, torch.full((1, 3), 3.0))
    assert torch.equal(network.bias.grad, torch.ones(1))


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_takes_no_step(tmp_path: Path, loss: float) -> None:
    network, update = _step(tmp_path)
    before = network.weight.detach().clone()
    update.begin()
    update.backward(network(torch.ones(1, 3)).sum())
    with pytest.raises(TrainingError, match=rf"the loss is {loss} at step 7, on a.tif, at a learning rate of 1.00e-01"):
        update.finish(loss, 7, 5, ", on a.tif")
    assert torch.equal(network.weight, before)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, MemoryError])
def test_lack_of_memory_names_batch_and_remedy(tmp_path: Path, error: type[Exception]) -> None:
    _, update = _step(tmp_path)
    with (
        pytest.raises(TrainingError, match=r"out of memory on cpu with 4 tiles\. Remedy: --set batch=2\."),
        update.memory_guard("4 tiles", "--set batch=2"),
    ):
        raise error


@pytest.mark.parametrize(("has_bf16", "precision"), [(True, torch.bfloat16), (False, torch.float16)])
def test_a_card_without_bf16_computes_in_fp16(
    has_bf16: bool, precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
    assert reduced_precision(torch.device("cuda")) == precision
    assert reduced_precision(CPU) is None


def test_in_fp16_losses_are_scaled_and_steps_are_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimiser_step, "reduced_precision", lambda device: torch.float16)
    network, update = _step(tmp_path)
    before = network.weight.detach().clone()
    update.begin()
    loss = network(torch.ones(1, 3)).sum()
    assert float(update.scaled(loss).detach()) == pytest.approx(65536 * float(loss.detach()))
    update.backward(loss)
    update.finish(float(loss.detach()), 1, 0)
    assert torch.allclose(before - network.weight, torch.full((1, 3), 0.1), atol=1e-6)
    kept = update.state()
    assert kept["scale"] == 65536
    _, resumed = _step(tmp_path)
    resumed.restore(kept | {"scale": 1024.0})
    assert resumed.state()["scale"] == 1024.0
    # An infinite gradient halves the scale, and the step is left out.
    now = network.weight.detach().clone()
    update.begin()
    update.backward(network(torch.full((1, 3), float("inf"))).sum())
    update.finish(1.0, 2, 1)
    assert torch.equal(network.weight, now) and update.state()["scale"] == 32768


def test_without_mixed_precision_nothing_is_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optimiser_step, "reduced_precision", lambda device: torch.float16)
    _, update = _step(tmp_path, mixed_precision=False)
    assert update.state() == {}
    assert float(update.scaled(torch.tensor(2.0))) == 2.0
