"""Which layers cost an INT8 engine its accuracy: each alone in INT8, measured by what the gate counts."""

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

# Beyond this an INT8 engine saves little: FP16 or float32 is the honest choice.
MAX_SHARE_KEPT = 0.5

# What the search is content with, as a share of the gate's limit: other processors and versions round otherwise.
MARGIN = 0.8

Build = Callable[[Collection[str]], onnx.ModelProto]


class Search(NamedTuple):
    """The engine that was found, its figures, and the layers that stayed in float32 with their harm: None for the heads."""

    model: onnx.ModelProto
    fidelity: list[Fidelity]
    kept: list[tuple[Layer, float | None]]


def harms(
    model: onnx.ModelProto, places: Sequence[Layer], build: Build, tiles: Tiles, limits: Mapping[str, float]
) -> list[float]:
    """Harm of each layer: how far it alone moves a phase's mean probability on a tile, as a share of the phase's limit.

    build: the model in INT8 but for the convolutions given. limits: percentage points, in the order of the phases. The mean
    probability moves steadily where a count of labels on a few tiles would jump.
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
    judge: Callable[[onnx.ModelProto], list[Fidelity]],
    measure: Callable[[], list[float]],
    progress: Callable[[str], None],
) -> Search:
    """Keep the heads in float32, then the most harmful layers, twice as many at each try, until the figures hold with a margin.

    heads: the last layers, whose logits decide. places: the other layers that may be quantised. measure: the harms of these,
    asked for only if heads are not enough. Where no try has the margin, the best is returned, which the caller lets pass or
    refuses.
    """
    best: Search | None = None

    def is_enough(kept: list[tuple[Layer, float | None]]) -> bool:
        nonlocal best
        model = build([name for layer, _ in kept for name in layer.nodes])
        found = Search(model, judge(model), kept)
        if best is None or nearest_limit(found.fidelity, "int8").ratio <= nearest_limit(best.fidelity, "int8").ratio:
            best = found
        return nearest_limit(best.fidelity, "int8").ratio <= MARGIN

    progress("quantising")
    kept: list[tuple[Layer, float | None]] = [(head, None) for head in heads]
    if not is_enough([]) and not is_enough(kept):
        progress("looking for the layers that cost accuracy")
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
    """Mean probability of each phase on each tile, (T, P)."""
    running = onnxruntime_session(model)
    return np.array(
        [running.run(["probability"], {"tiles": pixels})[0].mean((0, 2, 3), dtype=np.float64) for pixels in tiles]
    )
