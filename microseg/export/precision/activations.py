"""The activations of a graph: their ranges, and how many exceed the range of a number format."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray

from microseg.export.precision.sessions import onnxruntime_session

Tiles = Sequence[NDArray[np.uint8]]


class Range(NamedTuple):
    """Statistics of a tensor over the calibration tiles.

    Attributes:
        low: smallest value.
        high: largest value.
        magnitudes: largest absolute value on each tile.
        means: mean of each channel; empty where it was not asked for.
        size: mean height and width in px; empty where `means` is.
    """

    low: float
    high: float
    magnitudes: tuple[float, ...]
    means: tuple[float, ...] = ()
    size: tuple[float, ...] = ()

    @property
    def magnitude(self) -> float:
        """The largest absolute value."""
        return max(self.magnitudes)


def ranges(
    model: onnx.ModelProto, tensors: Iterable[str], tiles: Tiles, averaged: Collection[str] = ()
) -> dict[str, Range]:
    """Measure the range of tensors over tiles.

    Args:
        model: the graph of an engine.
        tensors: names of float32 tensors in it.
        tiles: each uint8 (1, 1, H, W).
        averaged: names of tensors (N, C, H, W) for which the mean of each channel is measured too.

    Returns:
        The range of each tensor by name. A value that is not a number makes the range not a number.
    """
    names = list(tensors)
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    for name in names:
        for extreme in ("Min", "Max"):
            output = f"{name}.{extreme}"
            watched.graph.node.append(onnx.helper.make_node(f"Reduce{extreme}", [name], [output], keepdims=0))
            watched.graph.output.append(onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, []))
    watched.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 2, 3]), "averaged.axes"))
    wanted = [name for name in names if name in averaged]
    for name in wanted:
        watched.graph.node.append(
            onnx.helper.make_node("ReduceMean", [name, "averaged.axes"], [f"{name}.Mean"], keepdims=0)
        )
        watched.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}.Mean", onnx.TensorProto.FLOAT, None))
        watched.graph.node.append(onnx.helper.make_node("Shape", [name], [f"{name}.Shape"], start=2))
        watched.graph.output.append(onnx.helper.make_tensor_value_info(f"{name}.Shape", onnx.TensorProto.INT64, [2]))
    running = onnxruntime_session(watched)
    outputs = [f"{name}.{what}" for what in ("Min", "Max") for name in names]
    outputs += [f"{name}.{what}" for what in ("Mean", "Shape") for name in wanted]
    runs = [running.run(outputs, {"tiles": pixels}) for pixels in tiles]
    found = np.array([run[: 2 * len(names)] for run in runs], np.float64)
    low, high = found[:, : len(names)], found[:, len(names) :]
    of_all = zip(*(run[2 * len(names) :] for run in runs), strict=True)
    averages = [tuple(np.array(values, np.float64).mean(0).tolist()) for values in of_all]
    means = dict(zip(wanted, averages[: len(wanted)], strict=True))
    sizes = dict(zip(wanted, averages[len(wanted) :], strict=True))
    # numpy's maximum keeps a value that is not a number.
    magnitude = np.maximum(np.abs(low), np.abs(high))
    return {
        name: Range(
            float(low[:, i].min()),
            float(high[:, i].max()),
            tuple(magnitude[:, i].tolist()),
            means.get(name, ()),
            sizes.get(name, ()),
        )
        for i, name in enumerate(names)
    }


def beyond_counter(
    model: onnx.ModelProto, limits: Mapping[str, tuple[float, float]]
) -> Callable[[NDArray[np.uint8]], int]:
    """A function that counts the values of some tensors that exceed their limits or are not numbers.

    Args:
        model: the graph of an engine.
        limits: lowest and highest value allowed, by the name of the tensor.

    Returns:
        The function: the count over all tensors for a tile uint8 (1, 1, H, W).
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph = watched.graph
    outputs = []
    for name, (low, high) in limits.items():
        bounds = {f"{name}.low": low, f"{name}.high": high}
        graph.initializer.extend(
            onnx.numpy_helper.from_array(np.array(value, np.float32), bound) for bound, value in bounds.items()
        )
        # A value that is not a number fails both comparisons, so the test is for values inside the limits.
        for operator, bound in zip(("GreaterOrEqual", "LessOrEqual"), bounds, strict=True):
            graph.node.append(onnx.helper.make_node(operator, [name, bound], [f"{bound}.inside"]))
        graph.node.extend(
            [
                onnx.helper.make_node("And", [f"{bound}.inside" for bound in bounds], [f"{name}.inside"]),
                onnx.helper.make_node("Not", [f"{name}.inside"], [f"{name}.outside"]),
                onnx.helper.make_node("Cast", [f"{name}.outside"], [f"{name}.ones"], to=onnx.TensorProto.INT32),
                onnx.helper.make_node("ReduceSum", [f"{name}.ones"], [f"{name}.beyond"], keepdims=0),
            ]
        )
        outputs.append(f"{name}.beyond")
        graph.output.append(onnx.helper.make_tensor_value_info(f"{name}.beyond", onnx.TensorProto.INT32, []))
    running = onnxruntime_session(watched)
    return lambda pixels: int(sum(int(count) for count in running.run(outputs, {"tiles": pixels})) if outputs else 0)
