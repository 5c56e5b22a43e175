"""The parts of an engine's graph: folds, their convolutions, and the nodes around them. Needs onnx, not torch."""

from __future__ import annotations

import errno
import re
import shutil
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import onnx
from numpy.typing import NDArray

from microseg.runtime.onnxruntime_library import onnxruntime_library

CONVOLUTIONS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# Sums over a whole tile have more terms than FP16 has digits.
POOLING = ("GlobalAveragePool", "ReduceMean", "ReduceSum")
BEFORE, AFTER, SUM = "normalises the input", "follows the last convolution", "sums over the whole tile"


class Layer(NamedTuple):
    """The convolutions at one place of the folds' networks.

    Attributes:
        name: of the layer, as in the network (`layer_name`).
        nodes: names of the convolutions in the graph, one or more for each fold.
    """

    name: str
    nodes: tuple[str, ...]


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """Fold batch normalisation, padding and constants into the convolutions.

    ONNX Runtime's basic optimisations do it; their result has standard operators only.

    Args:
        model: the graph of an engine.

    Returns:
        An equal graph in which every node has a name of its own.

    Raises:
        OSError: the temporary folder is full.
    """
    onnxruntime = onnxruntime_library()
    with TemporaryDirectory(prefix="microseg-") as folder:
        path = Path(folder) / "simplified.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 3
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its errors share no public base class and do not mention a full disk
            if shutil.disk_usage(folder).free < 2 * model.ByteSize():
                raise OSError(errno.ENOSPC, "no room in the temporary folder", folder) from error
            raise
        found = onnx.load(path)
    used = {node.domain for node in found.graph.node}
    versions = [(entry.domain, entry.version) for entry in found.opset_import if entry.domain in used]
    del found.opset_import[:]
    found.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in versions)
    taken: Counter[str] = Counter()
    for node in found.graph.node:
        name = node.name or node.op_type
        taken[name] += 1
        node.name = name if taken[name] == 1 else f"{name}_{taken[name]}"
    return found


def float_tensors(model: onnx.ModelProto) -> set[str]:
    """Names of all float32 tensors: inputs, initializers and results of nodes."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    wanted = onnx.TensorProto.FLOAT
    return {value.name for value in values if value.type.tensor_type.elem_type == wanted} | {
        tensor.name for tensor in model.graph.initializer if tensor.data_type == wanted
    }


def outside_convolutions(model: onnx.ModelProto) -> dict[str, str]:
    """The nodes that belong to no layer.

    Before the first convolution grey values are normalised. After the last one come the upsampling of logits, softmax, arg max
    and pooled features.

    Args:
        model: the graph of an engine.

    Returns:
        What each node does (BEFORE, AFTER or SUM), by the name of the node.
    """
    nodes = list(model.graph.node)
    after = _reached(nodes, forward=True)
    before = _reached(nodes[::-1], forward=False)
    found = {}
    for node in nodes:
        if node.op_type in CONVOLUTIONS:
            continue
        if node.name not in after:
            found[node.name] = BEFORE
        elif node.name not in before:
            found[node.name] = AFTER
        elif node.op_type in POOLING:
            found[node.name] = SUM
    return found


def _reached(nodes: Iterable[onnx.NodeProto], *, forward: bool) -> set[str]:
    """Names of the convolutions and of the nodes that come after one (forward) or before one, in `nodes`' order."""
    tensors: set[str] = set()
    names = set()
    for node in nodes:
        origins, results = (node.input, node.output) if forward else (node.output, node.input)
        if node.op_type in CONVOLUTIONS or any(name in tensors for name in origins):
            names.add(node.name)
            tensors.update(name for name in results if name)
    return names


def fold_logits(model: onnx.ModelProto) -> list[str]:
    """The tensors that decide the votes.

    Args:
        model: the graph of an engine.

    Returns:
        Their names, fold by fold. More than two phases: logits, float32 (N, 1, P, H, W); the vote is their arg max. Two phases:
        the logit of the second phase minus that of the first, float32 (N, 1, F, H, W), where a student has F heads.
    """
    made_by = _makers(model)

    def logits(name: str) -> str:
        node = made_by[name]
        while node.op_type not in ("ArgMax", "Greater"):
            node = made_by[node.input[0]]
        return str(node.input[0])

    top = made_by["votes"]
    return [logits(name) for name in (top.input if top.op_type == "Concat" else ["votes"])]


def layers(model: onnx.ModelProto) -> list[Layer]:
    """The convolutions in the order of computation. The same place in every fold is one layer."""
    made_by = _makers(model)
    order = {node.name: index for index, node in enumerate(model.graph.node)}
    folds = []
    for logits in fold_logits(model):
        found, waiting, seen = [], [logits], set()
        while waiting:
            node = made_by.get(waiting.pop())
            if node is None or node.name in seen:
                continue
            seen.add(node.name)
            waiting.extend(node.input)
            if node.op_type in CONVOLUTIONS:
                found.append(node)
        folds.append(sorted(found, key=lambda node: order[node.name]))
    if len({len(fold) for fold in folds}) > 1:
        folds = [[node for fold in folds for node in fold]]
    named: dict[str, dict[str, None]] = {}
    for place in zip(*folds, strict=True):
        # `graph_rewrites` may compute a layer with several convolutions.
        named.setdefault(layer_name(place[0]), {}).update(dict.fromkeys(node.name for node in place))
    return [Layer(name, tuple(nodes)) for name, nodes in named.items()]


def last_convolutions(model: onnx.ModelProto) -> set[str]:
    """Names of the convolutions that no other convolution follows."""
    followed: set[str] = set()
    last = set()
    for node in reversed(model.graph.node):
        before = any(name in followed for name in node.output)
        if node.op_type in CONVOLUTIONS:
            if not before:
                last.add(node.name)
            before = True
        if before:
            followed.update(node.input)
    return last


def layer_name(node: onnx.NodeProto) -> str:
    """The layer's name in the network (`encoder.layer1.0.conv1`) where the weight kept it, else the name of the node."""
    weight = node.input[1] if len(node.input) > 1 else ""
    named = re.match(r"(?:networks\.\d+\.)?(.+)\.weight", weight)
    return named.group(1) if named else node.name


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """The constant tensors of a graph, by name."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}
