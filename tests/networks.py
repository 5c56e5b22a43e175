"""Networks that are built once and copied after that."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from microseg.models.network import Network

Builder = Callable[..., Network]


def built_once(build: Builder, *, weights_follow: bool) -> Builder:
    """`build_network` with the results of before: the same weights, and the same state of the random numbers after it.

    Args:
        build: `build_network`.
        weights_follow: Whether the caller replaces the initial weights. They need not be the same then, but random numbers are
            drawn all the same, so that a caller who disturbs them is found out.
    """
    kept: dict[str, tuple[Network, torch.Tensor]] = {}

    @functools.wraps(build)
    def copied(encoder: Mapping[str, Any], network: Mapping[str, Any], phases: int, heads: int = 1) -> Network:
        if encoder["weights"] != "none" or torch.is_inference_mode_enabled():
            return build(encoder, network, phases, heads)
        before = b"" if weights_follow else torch.get_rng_state().numpy().tobytes()
        key = repr((dict(encoder), dict(network), phases, heads, before))
        if key not in kept:
            kept[key] = build(encoder, network, phases, heads), torch.get_rng_state()
        elif weights_follow:
            torch.rand(1)
        else:
            torch.set_rng_state(kept[key][1])
        return copy.deepcopy(kept[key][0])

    return copied
