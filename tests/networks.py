"""Networks that are built once and copied after that, and what they predict, computed once."""

from __future__ import annotations

import copy
import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from microseg.models.network import Network

Builder = Callable[..., Network]
# Predictions that are kept: those of the networks that many tests begin with, and of some others.
_MOST_KEPT = 400


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


def predicted_once(predict: Callable[..., Any]) -> Callable[..., Any]:
    """`predict_view` or `predict_field` with the results of before, for the same weights, pixels and settings.

    Args:
        predict: One of the two. Their networks are of one architecture in all calls. Those in training mode are always asked.
    """
    kept: dict[bytes, Any] = {}

    @functools.wraps(predict)
    def remembered(networks: Network | Sequence[Network], pixels: NDArray[np.uint8], *settings: int) -> Any:
        each = [networks] if isinstance(networks, Network) else list(networks)
        if any(module.training for network in each for module in network.modules()):
            return predict(networks, pixels, *settings)
        key = hashlib.blake2b(repr((pixels.shape, settings)).encode() + pixels.tobytes())
        for network in each:
            key.update(repr((type(network), network.phases, network.heads, network.stride)).encode())
            for value in network.state_dict().values():
                key.update(value.numpy().tobytes())
        found = kept.pop(key.digest(), None)
        if found is None:
            found = predict(networks, pixels, *settings)
        kept[key.digest()] = found
        if len(kept) > _MOST_KEPT:
            del kept[next(iter(kept))]
        return copy.deepcopy(found)

    return remembered
