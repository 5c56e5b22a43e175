"""Bias correction of INT8 convolutions: the mean error of the result caused by rounded weights is subtracted from the bias.

Source: Nagel et al. (2019), Data-free quantization through weight equalization and bias correction, section 4.2, with means
measured in calibration. Without the correction the area fractions of all fields change in the same direction.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from microseg.export.onnx_graph import constants
from microseg.export.precision.activations import Range

_DEFAULTS = {"pads": [0, 0, 0, 0], "dilations": [1, 1], "strides": [1, 1]}


def correct_biases(model: onnx.ModelProto, exact: onnx.ModelProto, found: Mapping[str, Range]) -> None:
    """Correct the biases of the INT8 convolutions of a graph in place.

    Args:
        model: the quantised graph.
        exact: the float32 graph that it was made from.
        found: ranges of the tensors of `exact`, with the mean of each channel where a convolution reads the tensor. The
            bias of a convolution without such means is not changed.
    """
    graph, values, weights = model.graph, constants(model), constants(exact)
    known = {node.name: node for node in exact.graph.node if node.op_type == "Conv"}
    made_by = {name: node for node in graph.node for name in node.output}
    for node in [node for node in graph.node if node.op_type == "Conv"]:
        rounded, before = made_by.get(node.input[1]), known[node.name]
        seen = found.get(before.input[0])
        if rounded is None or rounded.op_type != "DequantizeLinear" or seen is None or not seen.means:
            continue
        integers, scale = (values[name] for name in rounded.input[:2])
        weight = weights[before.input[1]].astype(np.float64)
        excess = integers * scale.reshape(-1, 1, 1, 1).astype(np.float64) - weight
        excess *= _inside(before, excess.shape[2:], seen.size)
        _subtract(graph, node, made_by, values, _mean_result(excess, np.array(seen.means)))


def _inside(node: onnx.NodeProto, kernel: tuple[int, ...], size: tuple[float, ...]) -> NDArray[np.float64]:
    """The share of positions at which each tap of a convolution lies on the map and not on its border of zeros, (h, w)."""
    given = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    pads, dilations, strides = (given.get(name, default) for name, default in _DEFAULTS.items())
    shares = []
    for axis, taps in enumerate(kernel):
        side, reach = round(size[axis]), dilations[axis] * (taps - 1)
        first = np.arange(0, side + pads[axis] + pads[axis + 2] - reach, strides[axis]) - pads[axis]
        met = first[:, None] + dilations[axis] * np.arange(taps)
        shares.append(((met >= 0) & (met < side)).mean(0))
    return np.outer(*shares)


def _mean_result(weight: NDArray[np.float64], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each output channel of a convolution, (O,).

    weight: (O, I, h, w), where I is the number of input channels of a group. means: of all input channels.
    """
    inside = weight.shape[1]
    groups = means.reshape(-1, inside)
    seen = np.repeat(groups, len(weight) // len(groups), axis=0)
    return np.asarray((weight.sum((2, 3)) * seen).sum(1))


def _subtract(
    graph: onnx.GraphProto,
    node: onnx.NodeProto,
    made_by: Mapping[str, onnx.NodeProto],
    values: Mapping[str, NDArray[Any]],
    shift: NDArray[np.float64],
) -> None:
    """Give the convolution `node` a bias of its own less `shift`: integers with a scale, or float32, as it had before."""
    name = f"{node.name}.corrected_bias"
    bias = node.input[2] if len(node.input) > 2 else ""
    integers = made_by.get(bias)
    if integers is None:
        start: NDArray[Any] = values[bias] if bias else np.zeros(len(shift))
        graph.initializer.append(numpy_helper.from_array((start - shift).astype(np.float32), name))
        del node.input[2:]
        node.input.append(name)
        return
    start, scale = (values[each] for each in integers.input[:2])
    corrected = np.rint(start - shift / scale.astype(np.float64)).astype(np.int32)
    graph.initializer.append(numpy_helper.from_array(corrected, f"{name}_quantized"))
    own = onnx.NodeProto.FromString(integers.SerializeToString())
    own.name, own.input[0], own.output[0] = f"{name}_DequantizeLinear", f"{name}_quantized", name
    graph.node.append(own)
    node.input[2] = name
