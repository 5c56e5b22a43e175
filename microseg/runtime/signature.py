"""The inputs and outputs of an engine's network (microseg/docs/design.md), in every runtime."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microseg.core.errors import InputError

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest

OUTPUTS = ("labels", "votes", "features", "probability")


def wanted_outputs(features: bool, probability: bool) -> list[str]:
    """Names of the outputs to compute. Labels and votes are always among them."""
    return ["labels", "votes", *(["features"] if features else []), *(["probability"] if probability else [])]


def check_signature(
    path: Path | str, inputs: Mapping[str, tuple[str, Sequence[Any]]], outputs: Collection[str], uint8: str
) -> None:
    """Raise InputError unless a network takes `tiles`, uint8 (N, 1, H, W), and gives every output.

    Args:
        path: the engine's file or address, for messages.
        inputs: element type and shape by name.
        outputs: names of the outputs.
        uint8: the runtime's name of that type.
    """
    missing = [name for name in OUTPUTS if name not in outputs]
    types = {name: kind for name, (kind, _) in inputs.items()}
    if types != {"tiles": uint8} or missing:
        raise InputError(
            f"{path}: takes {types} and lacks the outputs {missing}: it is no engine of this version. "
            "Remedy: export it again."
        )
    shape = inputs["tiles"][1]
    if len(shape) != 4 or shape[1] != 1:
        raise InputError(
            f"{path}: takes tiles of shape {list(shape)}; those of microseg are (N, 1, H, W). "
            "Remedy: give an engine that `microseg export` wrote."
        )


def check_counts(path: Path | str, manifest: Manifest, shapes: Mapping[str, Sequence[Any]]) -> None:
    """Raise InputError unless `votes` has one channel for each fold and `probability` one for each phase.

    Args:
        path: the engine's file or address, for messages.
        manifest: its manifest.
        shapes: shapes of the outputs by name; a size that is not fixed is no int.
    """
    for name, what, told in (("votes", "folds", manifest.folds), ("probability", "phases", manifest.phases)):
        size = shapes[name][1] if len(shapes.get(name, ())) > 1 else None
        if isinstance(size, int) and size != len(told):
            raise InputError(
                f"{path}: its network has {size} {what} and its manifest {len(told)}. Remedy: copy or export the "
                "engine again."
            )
