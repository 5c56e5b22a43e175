"""Finds the layers that cost an INT8 engine its accuracy: each is quantised alone and the change of fractions is measured."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from microseg.agreement.fidelity import nearest_limit
from microseg.core.schemas.fidelity import Fidelity
from microseg.export.onnx_graph import CONVOLUTIONS, Layer
from microseg.export.precision.activations import Tiles
from microseg.export.precision.sessions import onnxruntime_session

# Largest share of layers kept in float32. With more, an INT8 engine saves little time.
MAX_SHARE_KEPT = 0.5

# The search ends below this share of the gate's limits, because other processors and versions round differently.
MARGIN = 0.8

Build = Callable[[Collection[str]], onnx.ModelProto]


class Search(NamedTuple):
    """An INT8 engine that the search tried.

    Attributes:
        model: the graph.
        fidelity: its figures.
        kept: the layers that stay in float32, with the harm of each; None for the heads.
    """

    model: onnx.ModelProto
    fidelity: list[Fidelity]
    kept: list[tuple[Layer, float | None]]


def harms(
    model: onnx.ModelProto, places: Sequence[Layer], build: Build, tiles: Tiles, limits: Mapping[str, float]
) -> list[float]:
    """The harm of each layer: how much the layer alone in INT8 changes the mean probability of a phase.

    The mean probability of a tile changes continuously, while a count of labels on a few tiles changes in jumps.

    Args:
        model: the float32 graph.
        places: the layers.
        build: gives the graph in INT8 except for the convolutions named.
        tiles: each uint8 (1, 1, H, W).
        limits: limit of each phase in percentage points, in the order of the phases.

    Returns:
        For each layer the largest change over tiles and phases, as a share of the limit of that phase.
    """
    names = {node.name for node in model.graph.node if node.op_type in CONVOLUTIONS}
    limit = np.array(list(limits.values()))
    exact = _mean_probabilities(model, tiles)
    found = []
    for place in places:
        shift = 100 * np.abs(_mean_probabilities(build(names - set(place.nodes)), tiles) - exact)
        found.append(float((shift / limit).max()))
    return found


def search(
    heads: Sequence[Layer],
    places: Sequence[Layer],
    build: Build,
    compare: Callable[[onnx.ModelProto], list[Fidelity]],
    measure: Callable[[], list[float]],
    progress: Callable[[str], None],
) -> Search:
    """Search for an INT8 engine that agrees with float32 torch with a margin.

    First every layer is quantised. If that is not enough, the heads stay in float32, then the most harmful layers, twice as
    many at each try.

    Args:
        heads: the last layers, whose logits decide between phases.
        places: the other layers that may be quantised.
        build: gives the graph in INT8 except for the convolutions named.
        compare: gives the figures of a graph.
        measure: gives the harm of each of `places`; called only if the heads are not enough.
        progress: called with the name of each step as it begins.

    Returns:
        The first try with the margin. If none has it, the try that comes closest to its limits; the gate decides about it.
    """
    best: Search | None = None

    def is_enough(kept: list[tuple[Layer, float | None]]) -> bool:
        nonlocal best
        model = build([name for layer, _ in kept for name in layer.nodes])
        found = Search(model, compare(model), kept)
        if best is None or nearest_limit(found.fidelity, "int8").ratio <= nearest_limit(best.fidelity, "int8").ratio:
            best = found
        return nearest_limit(best.fidelity, "int8").ratio <= MARGIN

    progress("quantising")
    kept: list[tuple[Layer, float | None]] = [(head, None) for head in heads]
    if not is_enough([]) and not is_enough(kept):
        progress("searching for the layers that cost accuracy")
        harm = measure()
        ranked = sorted(range(len(places)), key=lambda index: -harm[index])
        most = int(MAX_SHARE_KEPT * len(places))
        number = 1
        while number <= most:
            progress(f"quantising all but {number + len(heads)} of {len(places) + len(heads)} layers")
            if is_enough([*kept, *((places[index], harm[index]) for index in ranked[:number])]):
                break
            number = min(2 * number, most) if number < most else most + 1
    assert best is not None
    return best


def _mean_probabilities(model: onnx.ModelProto, tiles: Tiles) -> NDArray[np.float64]:
    """Mean probability of each phase on each tile, float64 (T, P)."""
    running = onnxruntime_session(model)
    return np.array(
        [running.run(["probability"], {"tiles": pixels})[0].mean((0, 2, 3), dtype=np.float64) for pixels in tiles]
    )
