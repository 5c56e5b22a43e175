"""`python -m benchmarks.training_step`: a step of `train supervised` against a plain PyTorch loop.

The plain loop has the same network, batch, threads, memory format and optimiser. Its batches are drawn beforehand, and it does
nothing but forward, cross-entropy, backward and step. Ours is the real loop, with its loader, augmentation, Dice loss,
averaged weights and checks. Both run in turns, several times; figures are medians of steps.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine, versions
from microseg.core.system.files import write_json
from microseg.synthetic.folder import write_domain
from microseg.train.common.data import TrainingData, load_training_data
from microseg.train.common.recipe import Recipe
from microseg.train.recipe_files import load_recipe

WARM_UP = 2


def main() -> None:
    """Measure, print, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--recipe", default="synthetic")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    recipe = load_recipe(options.recipe, [f"steps={options.steps + WARM_UP}", f"validate_every={10**6}"])[1]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        write_domain(work / "s", "s", recipe.folds, 1, size_px=(1024, 717))
        data = load_training_data(work / "s", recipe.scale, recipe.folds)
        ours, plain = [], []
        for repeat in range(options.repeats):
            plain += plain_steps(recipe, data)
            ours += our_steps(recipe, data, work / f"fold-{repeat}")
    ratio = statistics.median(ours) / statistics.median(plain)
    print(f"plain loop {statistics.median(plain):.3f} s, train supervised {statistics.median(ours):.3f} s a step")
    print(f"ratio {ratio:.3f}")
    if options.json:
        figures: dict[str, Any] = {"ratio_to_plain_loop": ratio, "seconds": {"ours": ours, "plain": plain}}
        figures |= {
            "recipe": recipe.model_dump(mode="json"),
            "machine": machine(),
            "versions": versions("torch", "timm"),
        }
        write_json(options.json, figures)


def our_steps(recipe: Recipe, data: TrainingData, folder: Path) -> list[float]:
    """Seconds of every step of `train_fold` after the first few."""
    from microseg.train.supervised.loop import SupervisedFold, train_fold

    times: list[float] = []
    job = SupervisedFold(recipe, data.phases, data.fields[1:], data.fields[:1], 0, folder)
    train_fold(job, lambda step, steps, text: times.append(time.perf_counter()))
    return [after - before for before, after in zip(times[WARM_UP - 1 : -1], times[WARM_UP:], strict=True)]


def plain_steps(recipe: Recipe, data: TrainingData) -> list[float]:
    """The same of the plain loop."""
    import torch
    import torch.nn.functional as F

    from microseg.models.build import build_network
    from microseg.train.common.datasets import TileSampler

    sampler = TileSampler(
        data.fields[1:], recipe.augmentation, core_px=recipe.tile.core_px, halo_px=recipe.tile.halo_px,
        batch=recipe.batch, rare_phase_share=recipe.rare_phase_share, seed=(0, 0),
    )  # fmt: skip
    batches = [sampler.batch(step) for step in range(4)]
    network = build_network(recipe.encoder.model_dump(), recipe.network.model_dump(), len(data.phases))
    network = network.to(memory_format=torch.channels_last).train()
    optimiser = torch.optim.AdamW(network.parameters(), lr=recipe.optimiser.learning_rate)
    halo, core = recipe.tile.halo_px, recipe.tile.core_px
    times = []
    for step in range((recipe.steps or 0) + 1):
        batch = batches[step % len(batches)]
        tiles = torch.from_numpy(batch.tiles).float().contiguous(memory_format=torch.channels_last)
        logits = network.forward_any_size(tiles).logits[..., halo : halo + core, halo : halo + core]
        loss = F.cross_entropy(logits, torch.from_numpy(batch.labels).long())
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        times.append(time.perf_counter())
    return [after - before for before, after in zip(times[WARM_UP:-1], times[WARM_UP + 1 :], strict=True)]


if __name__ == "__main__":
    main()
