"""The ONNX graph of an engine in the form that TensorRT takes. Needs onnx, not torch."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.errors import InputError, MissingExtraError
from microseg.runtime.external import refuse_external_data

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

OUTPUTS = ("labels", "votes", "features")
PROBABILITY = "probability"
# Operators whose constant inputs come from training and calibration.
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul", "QuantizeLinear", "DequantizeLinear")


def plan_graph(path: Path, keep_probability: bool) -> bytes:
    """Read an ONNX engine and remove the outputs that a plan does not keep, with the nodes that only they need.

    Args:
        path: the .onnx file.
        keep_probability: whether the plan keeps the output `probability`.

    Returns:
        The serialised model that TensorRT parses.

    Raises:
        InputError: the file is not ONNX, keeps weights in another file, or has not the inputs and outputs of an engine.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise MissingExtraError("Building a plan", "tensorrt-rtx") from error
    from google.protobuf.message import DecodeError

    refuse_external_data(path)
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise InputError(
            f"{path}: is not an ONNX file, or is cut off. Remedy: copy or export the engine again."
        ) from error
    _require_engine(path, model)
    _keep_outputs(model.graph, (*OUTPUTS, PROBABILITY) if keep_probability else OUTPUTS)
    _bytes_at_the_end(model.graph)
    content: bytes = model.SerializeToString()
    return content


def graph_sha256(content: bytes) -> str:
    """SHA-256 of the parts of a graph that refitting a plan cannot change: everything except the values of the weights.

    Args:
        content: a model from `plan_graph`.

    Returns:
        64 hex digits.
    """
    import onnx

    graph = onnx.load_model_from_string(content).graph
    weights = {name for node in graph.node if node.op_type in _WEIGHTED for name in node.input}
    digest = hashlib.sha256()
    for tensor in sorted(graph.initializer, key=lambda tensor: tensor.name):
        values = b"" if tensor.name in weights else onnx.numpy_helper.to_array(tensor).tobytes()
        digest.update(repr((tensor.name, tensor.data_type, list(tensor.dims), values)).encode())
    for node in graph.node:
        # These fields state which program made the graph and when.
        node.ClearField("doc_string")
        del node.metadata_props[:]
    for part in (*graph.input, *graph.output, *graph.node):
        digest.update(part.SerializeToString(deterministic=True))
    return digest.hexdigest()


def _require_engine(path: Path, model: ModelProto) -> None:
    from onnx import TensorProto

    inputs = {
        value.name: (value.type.tensor_type.elem_type, [dim.dim_value for dim in value.type.tensor_type.shape.dim])
        for value in model.graph.input
    }
    remedy = "Remedy: give a file that `microseg export` wrote."
    if set(inputs) != {"tiles"} or inputs["tiles"][0] != TensorProto.UINT8 or len(inputs["tiles"][1]) != 4:
        raise InputError(f"{path}: has other inputs than `tiles`, uint8 (N, 1, H, W), so it is not an engine. {remedy}")
    if (channels := inputs["tiles"][1][1]) != 1:
        raise InputError(f"{path}: takes tiles of {channels or 'any number of'} channels. An engine takes 1. {remedy}")
    missing = {*OUTPUTS, PROBABILITY} - {value.name for value in model.graph.output}
    if missing:
        raise InputError(
            f"{path}: lacks the outputs {sorted(missing)}, so it is not an engine of this version. {remedy}"
        )


def _keep_outputs(graph: GraphProto, names: tuple[str, ...]) -> None:
    """Remove the other outputs and the nodes that only they need. The remaining nodes are put in the order of computation."""
    outputs = [value for value in graph.output if value.name in names]
    # Copies, because clearing the list deletes the originals.
    nodes = [type(node).FromString(node.SerializeToString()) for node in _needed(graph, [o.name for o in outputs])]
    del graph.output[:], graph.node[:]
    graph.output.extend(outputs)
    graph.node.extend(nodes)


def _needed(graph: GraphProto, outputs: list[str]) -> list[NodeProto]:
    """The nodes that these outputs need, in the order of computation. Converters to float16 leave graphs out of order."""
    makers = {name: (index, node) for index, node in enumerate(graph.node) for name in node.output}
    waiting = [(name, False) for name in outputs]
    seen: set[int] = set()
    ordered = []
    while waiting:
        name, inputs_done = waiting.pop()
        if name not in makers:
            continue
        index, node = makers[name]
        if inputs_done:
            ordered.append(node)
        elif index not in seen:
            seen.add(index)
            waiting.append((name, True))
            waiting.extend((input_name, False) for input_name in node.input)
    return ordered


def _bytes_at_the_end(graph: GraphProto) -> None:
    """Use uint8 only for outputs: TensorRT has no uint8 inside a network, where the graph stacks the votes of the folds."""
    from onnx import TensorProto, helper

    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.UINT8:
                attribute.i = TensorProto.INT32
    for value in graph.output:
        if value.type.tensor_type.elem_type != TensorProto.UINT8:
            continue
        inner = f"{value.name}_int32"
        for node in graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    if name == value.name:
                        names[index] = inner
        graph.node.append(helper.make_node("Cast", [inner], [value.name], to=TensorProto.UINT8))
    # The types inferred before no longer apply.
    del graph.value_info[:]
