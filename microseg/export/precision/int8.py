"""float32 graph -> INT8 graph in QDQ form, by ONNX Runtime's static quantisation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx

from microseg.export.onnx_graph import CONVOLUTIONS, constants, float_tensors
from microseg.export.precision.activations import Range, Tiles, ranges
from microseg.export.precision.int8_bias import correct_biases

# What ONNX Runtime computes on 8-bit integers without a detour through float32.
_OPERATORS = ("Conv", "ConvTranspose", "Relu", "Clip", "Add", "Concat", "MaxPool", "Resize", "Pad")
_ACTIVATIONS = ("Relu", "Clip")


def activation_ranges(model: onnx.ModelProto, tiles: Tiles) -> dict[str, Range]:
    """Range of every float32 activation over the calibration tiles, each uint8 (1, 1, H, W); means of what is convolved."""
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
    """The model with INT8 convolutions, but for the nodes `kept`. Weights: int8, symmetric, a scale per output channel.

    found: the ranges of the activations. Activations are uint8 with a zero point, which gives what follows a ReLU all
    256 steps, and every operator between two convolutions stays on integers, but beside those of `kept`, which read what
    is not rounded. Convolutions give float32 to what decides between phases, as 8 bits of a logit tie where they meet.
    Biases take up what rounded weights do on average (`int8_bias.py`).
    symmetric: int8 with zero point 0 at the inputs of convolutions alone, biases in float32: all that TensorRT takes; it
    fuses the rest itself, and ONNX Runtime runs it slower than the other form.
    reduced_range: weights of 7 bits, for processors whose 8-bit products saturate at 16 bits (no VNNI).
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
    """The activations that `model` quantises, with the values beyond which its integers saturate."""
    values = constants(model)
    limits = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] not in values:
            scale, zero = (values[name] for name in node.input[1:3])
            ends = np.iinfo(zero.dtype)
            low, high = ((end - int(zero)) * float(scale) for end in (ends.min, ends.max))
            # Half a step beyond still rounds to the end.
            limits[node.input[0]] = (low - float(scale) / 2, high + float(scale) / 2)
    return limits


def _read_as_real(model: onnx.ModelProto, kept: Collection[str]) -> set[str]:
    """The results of convolutions that nodes in float32 alone read."""
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
    """Nodes between convolutions that one of `kept` reads or is read by, directly or through others of them.

    One channel of large range there would leave no steps to the others. The ReLU of another convolution is that one's.
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
    """Let the nodes `in_float32` read constants, each other's results and `real` tensors as they stand in `exact`."""
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
    """Drop nodes, in the order of computation, and constants that nothing reads any more."""
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
