"""A float32 graph in FP16, with one type at every node and float32 where FP16 would lose accuracy.

The converters of onnxconverter-common and onnxruntime.transformers.float16 cast the output of every float32 node back to
FP16. A value between two such nodes overflows all the same, and softmax and pooled features pass through FP16. Here
neighbouring float32 nodes exchange float32. TensorRT's strongly typed mode needs one type at every node; only Resize takes
its scales in float32, as the ONNX standard says.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from microseg.export.onnx_graph import CONVOLUTIONS, constants, float_tensors, outside_convolutions
from microseg.export.precision.activations import Range, Tiles, ranges

LARGEST = float(np.finfo(np.float16).max)
SMALLEST_NORMAL = float(np.finfo(np.float16).smallest_normal)
# Calibration tiles are few. Another field may be brighter or show other structures.
HEADROOM = 4.0
# Rounding changes normal weights by 2**-12 of their value. A layer with a larger change has weights below FP16's normal range.
MAX_WEIGHT_CHANGE = 2.0**-9


def kept_in_float32(model: onnx.ModelProto, tiles: Tiles) -> dict[str, str]:
    """The nodes that FP16 cannot compute.

    A reference pass rounds every activation to FP16 and records its largest magnitude. Activations that exceed FP16 are
    passed on unrounded, so that one pass finds all of them. ONNX Runtime on the CPU computes FP16 graphs in float32 and
    would hide them.

    Args:
        model: the float32 graph, from `simplified`.
        tiles: each uint8 (1, 1, H, W), for the reference pass.

    Returns:
        The reason by the name of the node.
    """
    kept = outside_convolutions(model) | _weight_faults(model)
    rounded = rounded_twin(model, kept, overflowing=True)
    faults = {}
    for tensor, found in ranges(rounded, half_limits(model, kept), tiles).items():
        if fault := _fault(found):
            faults[tensor] = fault
    for node in model.graph.node:
        # Both the node that computes the tensor and the nodes that read it, so that the tensor stays float32 between them.
        for tensor in (*node.output, *node.input):
            if tensor in faults and node.name not in kept:
                kept[node.name] = faults[tensor]
    return kept


def to_half(model: onnx.ModelProto, kept: Collection[str]) -> onnx.ModelProto:
    """Convert a graph to FP16.

    Args:
        model: the float32 graph.
        kept: names of the nodes that stay in float32.

    Returns:
        The converted graph. Its inputs and outputs keep their types.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    graph = half.graph
    floats, weights = float_tensors(model), constants(model)
    in_half = _half_tensors(model, kept)
    made: dict[str, str] = {}
    nodes: list[onnx.NodeProto] = []

    def as_type(tensor: str, wanted: int) -> str:
        """The name of the tensor in the wanted type: a rounded constant, or a cast that is added once."""
        suffix = "fp16" if wanted == onnx.TensorProto.FLOAT16 else "fp32"
        name = f"{tensor}.{suffix}"
        if name not in made:
            made[name] = tensor
            if tensor in weights:
                graph.initializer.append(onnx.numpy_helper.from_array(_rounded(weights[tensor]), name))
            else:
                nodes.append(onnx.helper.make_node("Cast", [tensor], [name], name=f"cast.{name}", to=wanted))
        return name

    for node in list(graph.node):
        computes_half = node.name not in kept
        for place, tensor in enumerate(node.input):
            wants_half = computes_half and not (node.op_type == "Resize" and place > 0)
            if tensor in floats and wants_half != (tensor in in_half):
                wanted = onnx.TensorProto.FLOAT16 if wants_half else onnx.TensorProto.FLOAT
                node.input[place] = as_type(tensor, wanted)
        if computes_half and node.op_type == "Cast":
            for attribute in node.attribute:
                if attribute.name == "to" and attribute.i == onnx.TensorProto.FLOAT:
                    attribute.i = onnx.TensorProto.FLOAT16
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    read = {name for node in nodes for name in node.input}
    initializers = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(initializers)
    del graph.value_info[:]
    onnx.checker.check_model(half, full_check=True)
    return half


def rounded_twin(model: onnx.ModelProto, kept: Collection[str], *, overflowing: bool = False) -> onnx.ModelProto:
    """A float32 graph that computes what FP16 hardware computes from `to_half(model, kept)`.

    Weights and activations are rounded to FP16. Products are summed in float32, as tensor cores do.

    Args:
        model: the float32 graph.
        kept: names of the nodes that stay in float32.
        overflowing: pass values that exceed FP16 on unrounded. Otherwise they become infinite.

    Returns:
        The graph. A tensor keeps its name; the name stands for its value before rounding.
    """
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    graph = twin.graph
    in_half, weights = _half_tensors(model, kept), constants(model)
    floats = float_tensors(model)
    rounded: set[str] = set()
    largest = "fp16.largest"
    graph.initializer.append(onnx.numpy_helper.from_array(np.array(LARGEST, np.float32), largest))
    nodes: list[onnx.NodeProto] = []

    def rounding(tensor: str) -> str:
        name = f"{tensor}.rounded"
        if name in rounded:
            return name
        rounded.add(name)
        if tensor in weights:
            value = _rounded(weights[tensor]).astype(np.float32)
            graph.initializer.append(onnx.numpy_helper.from_array(value, name))
            return name
        make = onnx.helper.make_node
        back = f"{tensor}.back" if overflowing else name
        nodes.append(make("Cast", [tensor], [f"{tensor}.fp16"], to=onnx.TensorProto.FLOAT16))
        nodes.append(make("Cast", [f"{tensor}.fp16"], [back], to=onnx.TensorProto.FLOAT))
        if overflowing:
            nodes.append(make("Abs", [tensor], [f"{tensor}.abs"]))
            nodes.append(make("Greater", [f"{tensor}.abs", largest], [f"{tensor}.over"]))
            nodes.append(make("Where", [f"{tensor}.over", tensor, back], [name]))
        return name

    for node in list(graph.node):
        for place, tensor in enumerate(node.input):
            reads_half = node.name not in kept and tensor in floats and not (node.op_type == "Resize" and place > 0)
            if tensor in in_half or reads_half:
                node.input[place] = rounding(tensor)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return twin


def half_limits(model: onnx.ModelProto, kept: Collection[str]) -> dict[str, tuple[float, float]]:
    """The smallest and largest value of FP16, by the name of each activation that is FP16 in `to_half(model, kept)`."""
    made = _half_tensors(model, kept)
    outside = float_tensors(model) - made - constants(model).keys()
    read = {name for node in model.graph.node if node.name not in kept for name in node.input if name in outside}
    return dict.fromkeys(sorted(made | read), (-LARGEST, LARGEST))


def _half_tensors(model: onnx.ModelProto, kept: Collection[str]) -> set[str]:
    floats = float_tensors(model)
    return {name for node in model.graph.node if node.name not in kept for name in node.output if name in floats}


def _fault(found: Range) -> str | None:
    """The reason why an activation cannot be FP16; None where it can."""
    magnitude = found.magnitude
    if not magnitude * HEADROOM <= LARGEST:
        return f"activations up to {magnitude:.3g} (largest FP16 value {LARGEST:g}, headroom {HEADROOM:g})"
    if 0 < magnitude < SMALLEST_NORMAL:
        return f"activations of at most {magnitude:.3g} (FP16 loses digits below {SMALLEST_NORMAL:.2g})"
    return None


def _weight_faults(model: onnx.ModelProto) -> dict[str, str]:
    weights = constants(model)
    found = {}
    for node in model.graph.node:
        if node.op_type not in CONVOLUTIONS:
            continue
        for name in node.input[1:]:
            if name not in weights:
                continue
            # A bias may be negligible beside the weights.
            size = max(float(np.linalg.norm(weights[name])), float(np.linalg.norm(weights.get(node.input[1], 0.0))))
            change = float(np.linalg.norm(_rounded(weights[name]).astype(np.float64) - weights[name]))
            if not change <= MAX_WEIGHT_CHANGE * size:
                largest = np.abs(weights[name]).max()
                found[node.name] = f"weights up to {largest:.3g} change by {100 * change / size:.2g} % in FP16"
    return found


def _rounded(values: NDArray[Any]) -> NDArray[np.float16]:
    with np.errstate(over="ignore"):
        return np.asarray(values, np.float16)
