"""What every method learns from target tiles makes its own loss on them smaller, with one head and with two."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from microseg.models.discriminator import Discriminator
from microseg.models.network import Network, NetworkOutput
from microseg.train.uda import methods
from microseg.train.uda.methods import AdaptationModules, Losses, PseudoLabels, StepTiles
from microseg.train.uda.recipe import AdaptSegNet, Advent, Dacs, Dast, Fda, Masked, MinEnt

PHASES = 2


class Heads(Network):
    """A convolution that one or two heads share."""

    def __init__(self, heads: int) -> None:
        super().__init__("tf_efficientnet_lite0", PHASES, 1)
        self.encoder = nn.Conv2d(3, 8, 3, padding=1)
        self.main, self.auxiliary = nn.Conv2d(8, PHASES, 1), nn.Conv2d(8, PHASES, 1) if heads == 2 else None

    def forward(self, tiles: Tensor) -> NetworkOutput:
        shared = torch.relu(self.encoder(self.normalised(tiles)))
        auxiliary = self.auxiliary(shared) if self.auxiliary is not None else None
        return NetworkOutput(self.main(shared), shared.mean((2, 3)), auxiliary)


def adversarial(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    return methods.adversarial(modules, tiles, AdaptSegNet(adversarial=1, auxiliary=1))


def least_squares(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    return methods.adversarial(modules, tiles, AdaptSegNet(adversarial=1, auxiliary=1, loss="least_squares"))


def entropy_maps(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    return methods.adversarial(modules, tiles, Advent(adversarial=1, auxiliary=1))


def minimum_entropy(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    return methods.minimum_entropy(modules, tiles, MinEnt(weight=1, auxiliary=1))


def fourier(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    return methods.fourier(modules, tiles, Fda(entropy=1), 0)


def _taught(modules: AdaptationModules, tiles: StepTiles) -> Callable[[], PseudoLabels]:
    """Sure of every pixel, and never of the network's own opinion, which would have nothing to teach."""
    labels = (tiles.target[:, 0] > 128).long()
    return lambda: (labels, torch.ones_like(tiles.target[:, 0]))


def class_mixed(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    return methods.class_mixed(modules, tiles, Dacs(), lambda mixed: mixed, _taught(modules, tiles))


def attended(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    return methods.attended_self_training(modules, tiles, Dast(adversarial=0, auxiliary=0), _taught(modules, tiles))


def masked(modules: AdaptationModules, tiles: StepTiles) -> Losses:
    taught = _taught(modules, tiles)
    return methods.masked_consistency(
        modules, tiles.target, Masked(patch_px=4), lambda seen: seen, taught, {}, Dacs(confidence=0.9)
    )


def _modules(network: Heads, on_target: float = 1.0, scale: float = 1.0) -> AdaptationModules:
    torch.manual_seed(3)
    critics = [Discriminator(PHASES) for _ in range(1 if network.auxiliary is None else 2)]
    return AdaptationModules(
        network=network,
        teacher=deepcopy(network),
        discriminators=critics,
        forward=lambda tiles, origin: network.forward_any_size(tiles),
        segmentation=lambda logits, labels: 0 * logits.sum(),
        auxiliary=1.0,
        core_px=64,
        on_target=on_target,
        phase_weights=None,
        generator=torch.Generator().manual_seed(4),
        scaled=lambda loss: scale * loss,
    )


@pytest.fixture
def tiles() -> StepTiles:
    torch.manual_seed(0)
    source, target = 255 * torch.rand(2, 1, 64, 64), 255 * torch.rand(2, 1, 64, 64)
    return StepTiles(source, (source[:, 0] > 128).long(), target)


@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize(
    ("method", "names"),
    [
        (adversarial, ("target", "target_auxiliary")),
        (least_squares, ("target", "target_auxiliary")),
        (entropy_maps, ("target", "target_auxiliary")),
        (minimum_entropy, ("target", "target_auxiliary")),
        (fourier, ("target",)),
        (class_mixed, ("consistency",)),
        (attended, ("consistency",)),
        (masked, ("masked",)),
    ],
)
def test_a_step_makes_the_loss_on_the_target_smaller(
    method: Callable[[AdaptationModules, StepTiles], Losses], names: tuple[str, ...], heads: int, tiles: StepTiles
) -> None:
    torch.manual_seed(1)
    network = Heads(heads)
    before = method(_modules(network), tiles)
    with torch.no_grad():
        for weight in network.parameters():
            if weight.grad is not None:
                weight.sub_(weight.grad / (weight.grad.norm() + 1e-12), alpha=1e-3)
    after = method(_modules(network), tiles)
    for name in names[:heads]:
        assert after[name] < before[name]
    assert before["on_target"] > 0


def test_without_weight_on_the_target_nothing_is_learned_from_it(tiles: StepTiles) -> None:
    network = Heads(2)
    for method in (adversarial, minimum_entropy, fourier, class_mixed, attended, masked):
        network.zero_grad()
        assert method(_modules(network, on_target=0.0), tiles)["on_target"] == 0
        assert all(weight.grad is None or not weight.grad.any() for weight in network.parameters())


@pytest.mark.parametrize("method", [adversarial, minimum_entropy, fourier, class_mixed, attended, masked])
def test_in_fp16_every_gradient_is_scaled_and_no_loss(
    method: Callable[[AdaptationModules, StepTiles], Losses], tiles: StepTiles
) -> None:
    found = []
    for scale in (1.0, 16.0):
        torch.manual_seed(1)
        network = Heads(2)
        modules = _modules(network, scale=scale)
        losses = method(modules, tiles)
        weights = [
            *network.parameters(),
            *(weight for critic in modules.discriminators for weight in critic.parameters()),
        ]
        found.append((losses, [weight.grad for weight in weights]))
    (plain, gradients), (scaled, larger) = found
    assert scaled == pytest.approx(plain)
    for one, other in zip(gradients, larger, strict=True):
        assert (one is None) == (other is None)
        assert one is None or other is None or torch.allclose(16 * one, other, rtol=1e-4, atol=1e-7)
