"""The verdict "label a few fields" names fields by the choice of `microseg suggest`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from microseg.train.uda.bags import Bag, worth_labelling
from tests.core.labelling.committees import picture


class Threshold:
    """A network that calls pixels above a limit the second phase; its features are the mean and the spread of the view."""

    def __init__(self, limit: float) -> None:
        self.limit = limit

    def __call__(self, tiles: torch.Tensor) -> Any:
        above = tiles[:, 0].float() - self.limit
        features = torch.stack([tiles.float().mean((1, 2, 3)), tiles.float().std((1, 2, 3))], 1)
        return SimpleNamespace(logits=torch.stack([-above, above], 1), features=features)


def context(*target: Any) -> Any:
    def field(name: str, image: Any) -> Any:
        return SimpleNamespace(field=SimpleNamespace(name=name), image=np.asarray(image, np.uint8))

    source = [field(f"s{seed}", picture(64, 64, seed=10 + seed)) for seed in range(3)]
    fields = [field(f"t{number}", image) for number, image in enumerate(target)]
    return SimpleNamespace(
        record=SimpleNamespace(stride=8), data=SimpleNamespace(fields=source), target=SimpleNamespace(fields=fields)
    )


def bag(*limits: float) -> Bag:
    networks: Any = [Threshold(limit) for limit in limits]
    return Bag(networks, None, [0] * len(limits), 0.0, [], 0.9)


def test_three_fields_that_differ_and_no_copy() -> None:
    flat = [picture(64, 64, seed=seed) // 5 + 100 for seed in (20, 21)]
    usual = [picture(64, 64, seed=seed) for seed in range(4)]
    chosen = worth_labelling(context(*usual, *flat, flat[0]), bag(120, 125))
    assert len(chosen) == 3 and chosen[0] in ("t4", "t5", "t6")
    assert not {"t4", "t6"} <= set(chosen)
    assert worth_labelling(context(usual[0]), bag(120)) == ["t0"]
    assert len(worth_labelling(context(*(picture(64, 64, seed=seed) for seed in range(24))), bag(100, 120))) == 5
