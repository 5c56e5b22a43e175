"""An adversarial step (8 source + 8 target tiles) against a plain script of the published sequence of AdaptSegNet.

`python -m benchmarks.uda_step [--json FILE] [--steps N]`: the same DeepLabv2 with two heads and two discriminators, the same
weights, tiles, threads and memory format. Both step in turn; figures are medians. The plain script does what the paper
describes and nothing else: source forward and backward; target forward, adversarial backward with frozen discriminators;
discriminators on detached outputs of both domains; both optimisers step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.machine import machine
from microseg.core.system.files import write_json
from microseg.models.build import build_network
from microseg.models.discriminator import Discriminator
from microseg.models.network import NetworkOutput
from microseg.train.common.losses import cross_entropy
from microseg.train.uda.methods import AdaptationModules, StepTiles, TileOrigin, adversarial
from microseg.train.uda.recipe import AdaptSegNet

ENCODER = {"name": "tf_efficientnet_lite0", "weights": "imagenet"}
NETWORK = {"kind": "deeplabv2", "aspp_branches": 4, "auxiliary_loss": 0.1}
PHASES, BATCH, SIDE = 2, 8, 192
METHOD = AdaptSegNet()
SEGMENTATION_AUXILIARY = 0.1


class Trained:
    """A network with its discriminators and optimisers, the same at each construction."""

    def __init__(self, encoder: Mapping[str, Any] = ENCODER, device: str = "cpu") -> None:
        torch.manual_seed(0)
        network = build_network(encoder, NETWORK, PHASES).to(device)
        self.network = network.to(memory_format=torch.channels_last).train()
        self.discriminators = [Discriminator(PHASES).to(device) for _ in range(2)]
        self.optimiser = torch.optim.SGD(
            self.network.parameter_groups(2.5e-4, 2.5e-3), lr=2.5e-4, momentum=0.9, weight_decay=5e-4
        )
        parameters = [p for d in self.discriminators for p in d.parameters()]
        self.critic = torch.optim.Adam(parameters, lr=1e-4, betas=(0.9, 0.99))

    def step(self) -> None:
        """Step both optimisers."""
        self.optimiser.step()
        self.critic.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.critic.zero_grad(set_to_none=True)


def published(trained: Trained, tiles: StepTiles) -> dict[str, float]:
    """The sequence of Tsai et al. (2018), without anything else."""
    network, (main, auxiliary) = trained.network, trained.discriminators
    for discriminator in (main, auxiliary):
        discriminator.requires_grad_(False)
    of_source: NetworkOutput = network(_channels_last(tiles.source))
    assert of_source.auxiliary is not None
    segmentation = cross_entropy(of_source.logits, tiles.labels, None)
    segmentation = segmentation + SEGMENTATION_AUXILIARY * cross_entropy(of_source.auxiliary, tiles.labels, None)
    segmentation.backward()  # type: ignore[no-untyped-call]
    of_target: NetworkOutput = network(_channels_last(tiles.target))
    assert of_target.auxiliary is not None
    fooled = _domain(main(of_target.logits.softmax(1)), 0.0)
    fooled_auxiliary = _domain(auxiliary(of_target.auxiliary.softmax(1)), 0.0)
    (METHOD.adversarial * fooled + METHOD.auxiliary * fooled_auxiliary).backward()  # type: ignore[no-untyped-call]
    told = []
    for discriminator, source, target in (
        (main, of_source.logits, of_target.logits),
        (auxiliary, of_source.auxiliary, of_target.auxiliary),
    ):
        discriminator.requires_grad_(True)
        known = _domain(discriminator(source.detach().softmax(1)), 0.0) / 2
        known.backward()  # type: ignore[no-untyped-call]
        other = _domain(discriminator(target.detach().softmax(1)), 1.0) / 2
        other.backward()  # type: ignore[no-untyped-call]
        told.append(float(known.detach()) + float(other.detach()))
    return {
        "segmentation": float(segmentation.detach()),
        "target": float(fooled.detach()),
        "target_auxiliary": float(fooled_auxiliary.detach()),
        "discriminator": told[0],
        "discriminator_auxiliary": told[1],
    }


def ours(trained: Trained, tiles: StepTiles, core_px: int = SIDE, *, reduced: bool = False) -> dict[str, float]:
    """The step of `train uda --method adaptsegnet`; reduced: with autocast to bf16, as on a GPU."""

    def forward(batch: Tensor, origin: TileOrigin) -> NetworkOutput:
        with torch.autocast(batch.device.type, torch.bfloat16, enabled=reduced):
            return trained.network.forward_any_size(_channels_last(batch))

    modules = AdaptationModules(
        network=trained.network,
        teacher=trained.network,
        discriminators=trained.discriminators,
        forward=forward,
        segmentation=lambda logits, labels: cross_entropy(logits, labels, None),
        auxiliary=SEGMENTATION_AUXILIARY,
        core_px=core_px,
        on_target=1.0,
        phase_weights=None,
        generator=torch.Generator(),
    )
    return adversarial(modules, tiles, METHOD)


def main() -> None:
    """Step in turn, compare losses and times, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    pair = (published, Trained()), (ours, Trained())
    seconds: list[list[float]] = [[], []]
    differences = []
    for step in range(options.steps + 1):
        tiles = random_tiles(rng)
        losses: list[dict[str, float]] = [{}, {}]
        # Who is first changes, so that neither always finds warm caches.
        for which in (0, 1) if step % 2 else (1, 0):
            run, trained = pair[which]
            started = time.perf_counter()
            losses[which] = run(trained, tiles)
            trained.step()
            if step:
                seconds[which].append(time.perf_counter() - started)
        differences.append(max(abs(losses[0][name] - losses[1][name]) for name in losses[0]))
    medians = [float(np.median(values)) for values in seconds]
    ratio = float(np.median(np.array(seconds[1]) / np.array(seconds[0])))
    table = Table(title=f"DeepLabv2 on {ENCODER['name']}, {BATCH} + {BATCH} tiles of {SIDE} px", title_justify="left")
    for column in ("", "s a step, median"):
        table.add_column(column)
    table.add_row("published sequence, plain", f"{medians[0]:.2f}")
    table.add_row("microseg", f"{medians[1]:.2f}")
    Console().print(table)
    print(
        f"ratio {ratio:.3f} (median of pairs); largest difference of a loss in the first 3 steps: {max(differences[:3]):.1e}"
    )
    if options.json:
        found: dict[str, Any] = {"ratio_to_published_structure": ratio, "median_seconds": medians, "seconds": seconds}
        write_json(options.json, found | {"loss_differences": differences, "machine": machine()})


def random_tiles(rng: np.random.Generator, side: int = SIDE, batch: int = BATCH, device: str = "cpu") -> StepTiles:
    """Random tiles for a step, with labels in patches of 16 px."""
    grey = rng.integers(0, 255, (2, batch, 1, side, side))
    patches = -(-side // 16)
    labels = rng.integers(0, PHASES, (batch, patches, patches)).repeat(16, 1).repeat(16, 2)[:, :side, :side]
    arrays = (grey[0].astype(np.float32), labels, grey[1].astype(np.float32))
    source, truth, target = (torch.from_numpy(array).to(device) for array in arrays)
    return StepTiles(source, truth, target)


def _domain(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))


def _channels_last(tiles: Tensor) -> Tensor:
    return tiles.contiguous(memory_format=torch.channels_last)


if __name__ == "__main__":
    main()
