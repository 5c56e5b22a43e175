"""What an engine's graph consists of: folds, their convolutions, and the parts around them. ONNX alone, no torch."""

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
# Sums over a whole tile: more terms than FP16 has digits.
POOLING = ("GlobalAveragePool", "ReduceMean", "ReduceSum")
BEFORE, AFTER, SUM = "normalises the input", "follows the last convolution", "sums over the whole tile"


class Layer(NamedTuple):
    """The convolutions at one place of the folds' networks. nodes: their names, one per fold that has it."""

    name: str
    nodes: tuple[str, ...]


def simplified(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same function with batch normalisation, padding and constants folded into the convolutions.

    By ONNX Runtime's basic optimisations, which leave standard operators alone. Every node has a name of its own. Raises
    OSError where the temporary folder is full.
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
        except Exception as error:  # ONNX Runtime's errors share no public base class; of a full disk it says nothing
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
    """Names of all float32 tensors: inputs, initializers and whatever the nodes make."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.input, *inferred.output)
    wanted = onnx.TensorProto.FLOAT
    return {value.name for value in values if value.type.tensor_type.elem_type == wanted} | {
        tensor.name for tensor in model.graph.initializer if tensor.data_type == wanted
    }


def outside_convolutions(model: onnx.ModelProto) -> dict[str, str]:
    """Nodes whose work is not that of a layer, by name, with what they do: BEFORE, AFTER or SUM.

    Before the first convolution grey values are normalised; after the last one come the upsampling of logits, softmax,
    arg max and pooled features.
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
    """Names of the tensors that the votes are decided by, fold by fold: float32 (N, 1, P, H, W), of which they are the arg max.

    Of two phases (N, 1, F, H, W): how far the second one's logits are above the first one's, F of them from a student of as
    many heads.
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
    """The convolutions in the order of the computation; equal places of the folds are one layer."""
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
        # A shortcut computes a layer by several convolutions.
        named.setdefault(layer_name(place[0]), {}).update(dict.fromkeys(node.name for node in place))
    return [Layer(name, tuple(nodes)) for name, nodes in named.items()]


def last_convolutions(model: onnx.ModelProto) -> set[str]:
    """Convolutions that no other one follows."""
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
    """What a person calls the layer: `encoder.layer1.0.conv1` where the weight kept its name, else the node's name."""
    weight = node.input[1] if len(node.input) > 1 else ""
    named = re.match(r"(?:networks\.\d+\.)?(.+)\.weight", weight)
    return named.group(1) if named else node.name


def constants(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Initializers by name."""
    return {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def _makers(model: onnx.ModelProto) -> dict[str, onnx.NodeProto]:
    return {name: node for node in model.graph.node for name in node.output}
