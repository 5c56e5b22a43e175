"""A float32 graph in INT8 (QDQ form), by ONNX Runtime's static quantisation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx

from microseg.export.onnx_graph import CONVOLUTIONS, constants, float_tensors
from microseg.export.precision.activations import Range, Tiles, ranges
from microseg.export.precision.int8_bias import correct_biases

# Operators that ONNX Runtime computes on 8-bit integers without converting to float32.
_OPERATORS = ("Conv", "ConvTranspose", "Relu", "Clip", "Add", "Concat", "MaxPool", "Resize", "Pad")
_ACTIVATIONS = ("Relu", "Clip")


def activation_ranges(model: onnx.ModelProto, tiles: Tiles) -> dict[str, Range]:
    """Measure the range of every float32 activation, and the channel means of the inputs of convolutions.

    Args:
        model: the float32 graph.
        tiles: calibration tiles, each uint8 (1, 1, H, W).

    Returns:
        The range of each activation by name.
    """
    names = sorted(float_tensors(model) - constants(model).keys() - _outputs(model))
    return ranges(model, names, tiles, {node.input[0] for node in model.graph.node if node.op_type == "Conv"})


def quantised(
    model: onnx.ModelProto,
    found: Mapping[str, Range],
    kept: Collection[str],
    *,
    symmetric: bool = False,
    reduced_range: bool = False,
) -> onnx.ModelProto:
    """Quantise the convolutions of a graph to INT8.

    Weights are int8, symmetric, with a scale for each output channel. Activations are uint8 with a zero point, so that the
    result of a ReLU has all 256 steps. Operators between two convolutions compute on integers, except beside a node of
    `kept`, which reads unrounded values. Convolutions whose results decide between phases give float32, because logits of 8
    bits tie where phases meet. Biases are corrected for the mean error of rounded weights (`int8_bias`).

    Args:
        model: the float32 graph.
        found: range of each activation, from `activation_ranges`.
        kept: names of the nodes that stay in float32.
        symmetric: int8 with zero point 0, only at the inputs of convolutions, and biases in float32. TensorRT takes only
            this form and fuses the rest itself. ONNX Runtime runs it slower than the other form.
        reduced_range: weights of 7 bits, for processors whose 8-bit products saturate at 16 bits (no VNNI).

    Returns:
        The quantised graph.
    """
    from onnxruntime.quantization import CalibrationMethod, QDQQuantizer, QuantType, TensorsData

    limits = {name: (np.float32(item.low), np.float32(item.high)) for name, item in found.items()}
    real = float_tensors(model) if symmetric else _read_as_real(model, set(kept))
    in_float32 = {*kept, *_beside(model, set(kept))}
    options: dict[str, Any] = {"WeightSymmetric": True, "ActivationSymmetric": symmetric}
    if symmetric:
        options |= {"OpTypesToExcludeOutputQuantization": ["Conv", "ConvTranspose"], "QuantizeBias": False}
    quantizer = QDQQuantizer(
        onnx.shape_inference.infer_shapes(model),
        per_channel=True,
        reduce_range=reduced_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if symmetric else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, limits),
        nodes_to_quantize=[],
        nodes_to_exclude=list(in_float32),
        op_types_to_quantize=["Conv", "ConvTranspose"] if symmetric else list(_OPERATORS),
        extra_options=options,
    )
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    _read_unrounded(made.graph, model, in_float32, real)
    correct_biases(made, model, found)
    quantizer.model.topological_sort()
    _drop_unread(made.graph)
    del made.graph.value_info[:]
    onnx.checker.check_model(made, full_check=True)
    return made


def saturation_limits(model: onnx.ModelProto) -> dict[str, tuple[float, float]]:
    """The lowest and highest value at which the integers of a quantised graph saturate, by the name of the activation."""
    values = constants(model)
    limits = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in values:
            scale, zero = (values[name] for name in node.input[1:3])
            ends = np.iinfo(zero.dtype)
            low, high = ((end - int(zero)) * float(scale) for end in (ends.min, ends.max))
            # Values up to half a step outside are rounded to the end.
            limits[node.input[0]] = (low - float(scale) / 2, high + float(scale) / 2)
    return limits


def _read_as_real(model: onnx.ModelProto, kept: Collection[str]) -> set[str]:
    """The results of convolutions that only nodes in float32 read."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    return {
        node.output[0]
        for node in model.graph.node
        if node.op_type in CONVOLUTIONS
        and all(after.name in kept and after.op_type not in CONVOLUTIONS for after in readers.get(node.output[0], []))
    }


def _beside(model: onnx.ModelProto, kept: Collection[str]) -> set[str]:
    """The nodes between convolutions that are connected to a node of `kept`, directly or through each other.

    In 8 bits one channel of large range would leave no steps to the other channels there. The ReLU of a quantised
    convolution is not among them: it belongs to that convolution.
    """
    nodes = list(model.graph.node)
    convolutions = {node.name for node in nodes if node.op_type in CONVOLUTIONS}
    quantised = {name for node in nodes if node.name in convolutions - set(kept) for name in node.output}
    own = {node.name for node in nodes if node.op_type in _ACTIVATIONS and node.input[0] in quantised}
    found: set[str] = set()
    for order, forward in ((nodes, True), (nodes[::-1], False)):
        touched: set[str] = set()
        for node in order:
            origins, results = (node.input, node.output) if forward else (node.output, node.input)
            between = node.name not in convolutions | own and any(name in touched for name in origins)
            if between:
                found.add(node.name)
            if between or node.name in convolutions & set(kept):
                touched.update(name for name in results if name)
    return found


def _read_unrounded(
    graph: onnx.GraphProto, exact: onnx.ModelProto, in_float32: Collection[str], real: Collection[str]
) -> None:
    """Let the nodes `in_float32` read constants, results of each other and `real` tensors unrounded, as in `exact`."""
    values = {tensor.name: tensor for tensor in exact.graph.initializer}
    before = {node.name: node for node in exact.graph.node if node.name in in_float32}
    known = {*real, *values, *(name for node in before.values() for name in node.output)}
    # A rounded bias keeps the name of the exact one.
    rounded = values.keys() & {name for node in graph.node for name in node.output}
    for name in rounded:
        values[f"{name}.exact"] = onnx.TensorProto.FromString(values.pop(name).SerializeToString())
        values[f"{name}.exact"].name = f"{name}.exact"
    for node in graph.node:
        if node.name in before:
            for place, name in enumerate(before[node.name].input):
                if name in known:
                    node.input[place] = f"{name}.exact" if name in rounded else name
    there = {tensor.name for tensor in graph.initializer}
    read = {name for node in graph.node for name in node.input}
    graph.initializer.extend(tensor for name, tensor in values.items() if name in read - there)


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove nodes and constants that nothing reads. The nodes are in the order of computation."""
    read = {value.name for value in graph.output}
    for node in reversed(list(graph.node)):
        if read.isdisjoint(node.output):
            graph.node.remove(node)
        else:
            read.update(node.input)
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _outputs(model: onnx.ModelProto) -> set[str]:
    return {value.name for value in model.graph.output}
