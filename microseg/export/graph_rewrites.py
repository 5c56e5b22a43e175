"""Rewrites that compute the same function with fewer operations. Needs onnx, not torch.

The graph of a bag multiplies by zeros, and multiplies the same values twice. A rewritten graph differs from the original
only in the order in which float32 sums are taken. The gate of `export` checks the result.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from microseg.export.onnx_graph import constants, fold_logits

# The cost of interleaving grows with the output channels, the saving with output and input channels. INT8 saves less, so its
# threshold is higher.
LEAST_ENLARGED_CHANNELS, LEAST_ENLARGED_CHANNELS_INT8 = 32, 64
# Processors compute 16 channels of a convolution at a time. A head of a few phases wastes the others.
_LANES = 16
_PLACES = [(0, 0), (0, 1), (1, 0), (1, 1)]


def grey_stem(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let the first convolutions read one grey channel instead of three equal ones.

    Where the three channels are normalised differently, a second channel of ones carries the difference. It is zero where a
    convolution pads, as the normalised channels are.

    Args:
        model: the graph of a bag.

    Returns:
        The rewritten graph.
    """
    graph = _Graph(model)
    for div in graph.nodes("Div"):
        sub = graph.maker(div.input[0])
        if sub is None or sub.op_type != "Sub" or not {sub.input[1], div.input[1]} <= graph.values.keys():
            continue
        mean, std = (graph.values[name].astype(np.float64).ravel() for name in (sub.input[1], div.input[1]))
        # Padding with zeros may be a node of its own. It treats all channels alike.
        readers = [
            after
            for node in graph.readers(div.output[0])
            for after in (graph.readers(node.output[0]) if node.op_type == "Pad" else [node])
        ]
        if len(mean) < 2 or len(graph.readers(sub.output[0])) > 1 or any(node.op_type != "Conv" for node in readers):
            continue
        middle, spread = mean.mean(), std.mean()
        channels = 1 if np.ptp(mean) == 0 and np.ptp(std) == 0 else 2
        for conv in readers:
            weight = graph.values[conv.input[1]].astype(np.float64)
            factors = [spread / std, (middle - mean) / std]
            grey = np.stack([np.tensordot(weight, factor, (1, 0)) for factor in factors[:channels]], 1)
            conv.input[1] = graph.constant(conv.input[1], grey)
        for node, kind, values in ((sub, "Mul", [1 / spread, 0]), (div, "Add", [-middle / spread, 1])):
            node.op_type = kind
            constant = np.reshape(values[:channels], (1, channels, 1, 1))
            node.input[1] = graph.constant(f"{node.output[0]}.grey", constant)
    return graph.finished()


def narrow_heads(model: onnx.ModelProto) -> onnx.ModelProto:
    """Let heads of up to four phases compute four neighbouring pixels at a time.

    The results are as many numbers, at a quarter of the places with four times the channels. Only heads whose logits have the
    size of the tile are rewritten, because that size is even.

    Args:
        model: the graph of a bag.

    Returns:
        The rewritten graph.
    """
    graph = _Graph(model)
    for planes in fold_logits(model):
        before = graph.maker(planes)
        logits = before.input[0] if before is not None and before.op_type == "Unsqueeze" else planes
        conv = graph.maker(logits)
        weight = None if conv is None else graph.plain_3x3(conv)
        if conv is None or weight is None or len(_PLACES) * len(weight) > _LANES:
            continue
        phases, channels = weight.shape[:2]
        wide = np.zeros((len(_PLACES), phases, channels, 4, 4), np.float32)
        for place, (y, x) in enumerate(_PLACES):
            wide[place, :, :, y : y + 3, x : x + 3] = weight
        conv.input[1] = graph.constant(conv.input[1], wide.reshape(-1, channels, 4, 4))
        if len(conv.input) > 2:
            conv.input[2] = graph.constant(conv.input[2], np.tile(graph.values[conv.input[2]], len(_PLACES)))
        del conv.attribute[:]
        conv.attribute.extend(_attributes(kernel_shape=[4, 4], strides=[2, 2], pads=[1, 1, 1, 1]))
        conv.output[0] = f"{logits}.places"
        graph.insert_after(conv, [_interleaved(f"{logits}.places", logits)])
    return graph.finished()


def small_upsampling(model: onnx.ModelProto, least_channels: int = LEAST_ENLARGED_CHANNELS) -> onnx.ModelProto:
    """Replace a 3 x 3 convolution of a map enlarged twofold by repetition by four 2 x 2 convolutions of the small map.

    Each of the four computes one of four neighbouring pixels; together they take 4/9 of the multiplications. The skip
    connection that was concatenated with the map is convolved for the same four pixels with a stride of two, and added
    before the pixels are interleaved.

    Args:
        model: the graph of a bag.
        least_channels: fewest channels of an enlarged map for which the rewrite is applied.

    Returns:
        The rewritten graph.
    """
    graph = _Graph(model)
    for conv in graph.nodes("Conv"):
        weight, source = graph.plain_3x3(conv), graph.maker(conv.input[0])
        if weight is None or source is None:
            continue
        skip = ""
        if source.op_type == "Concat" and len(source.input) == 2 and len(graph.readers(source.output[0])) == 1:
            skip = source.input[1]
            source = graph.maker(source.input[0])
        beside_channels = graph.channels(skip)
        enlarged = weight.shape[1] - beside_channels
        if source is None or not graph.repeats_twofold(source) or enlarged < least_channels:
            continue
        if skip and not beside_channels:
            continue
        # A ReLU that alone reads the convolution is computed with it, pixel by pixel.
        after = graph.readers(conv.output[0])
        relu = after[0] if len(after) == 1 and after[0].op_type == "Relu" else None
        result, name, bias = conv.output[0], conv.input[1], list(conv.input[2:])
        beside = graph.constant(f"{name}.skip", weight[:, enlarged:]) if skip else ""
        made, places = [], []
        for y, x in _PLACES:
            place = f"{result}.{y}{x}"
            taps = _two_taps(_two_taps(weight[:, :enlarged], 2, y), 3, x)
            inputs = [source.input[0], graph.constant(f"{name}.{y}{x}", taps), *([] if skip else bias)]
            made.append(_convolution(inputs, place, conv, kernel_shape=[2, 2], pads=[1 - y, 1 - x, y, x]))
            if skip:
                given = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1 - y, 1 - x, y, x]}
                made.append(_convolution([skip, beside, *bias], f"{place}.skip", conv, **given))
                made.append(_node("Add", [place, f"{place}.skip"], f"{place}.sum"))
                place = f"{place}.sum"
            if relu is not None:
                made.append(_node("Relu", [place], f"{place}.relu"))
                place = f"{place}.relu"
            places.append(place)
        whole = result if relu is None else relu.output[0]
        made += [_node("Concat", places, f"{result}.places", axis=1), _interleaved(f"{result}.places", whole)]
        (conv if relu is None else relu).output[0] = f"{result}.whole"
        graph.insert_after(conv, made)
    return graph.finished()


def interleaved_by_copies(model: onnx.ModelProto) -> onnx.ModelProto:
    """Replace the DepthToSpace nodes of this module by concatenations, line by line.

    ONNX Runtime computes DepthToSpace on one processor, which takes three times as long.

    Args:
        model: a graph that `small_upsampling` or `narrow_heads` returned.

    Returns:
        The rewritten graph.
    """
    graph = _Graph(model)
    for node in graph.nodes("DepthToSpace"):
        whole, source = node.output[0], graph.maker(node.input[0])
        if source is not None and source.op_type == "Concat" and len(source.input) == len(_PLACES):
            places, made = list(source.input), []
        else:
            places = [f"{whole}.{y}{x}" for y, x in _PLACES]
            made = [
                helper.make_node("Split", node.input[:1], places, f"{whole}.split", axis=1, num_outputs=len(places))
            ]
        lines = []
        for y in range(2):
            row, line = places[2 * y : 2 * y + 2], f"{whole}.line{y}"
            made += [_node("Unsqueeze", [each, graph.indices(-1)], f"{each}.alone") for each in row]
            made.append(_node("Concat", [f"{each}.alone" for each in row], f"{line}.pairs", axis=-1))
            made.append(_node("Reshape", [f"{line}.pairs", graph.indices(0, 0, 0, -1)], line))
            lines.append(line)
        made += [
            _node("Concat", lines, f"{whole}.lines", axis=-1),
            _node("Shape", places[:1], f"{whole}.small"),
            _node("Mul", [f"{whole}.small", graph.indices(1, 1, 2, 2)], f"{whole}.size"),
            _node("Reshape", [f"{whole}.lines", f"{whole}.size"], whole),
        ]
        node.output[0] = f"{whole}.unread"
        graph.insert_after(node, made)
    return graph.finished()


class _Graph:
    """A copy of a model while it is rewritten."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        self._graph = self._model.graph
        self.values = constants(model)
        self._makers = {name: node for node in self._graph.node for name in node.output}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._shapes = {
            value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in inferred.value_info
        }
        self._after: dict[str, list[onnx.NodeProto]] = {}
        self._made = 0

    def nodes(self, kind: str) -> list[onnx.NodeProto]:
        return [node for node in self._graph.node if node.op_type == kind]

    def maker(self, tensor: str) -> onnx.NodeProto | None:
        return self._makers.get(tensor)

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        return [node for node in self._graph.node if tensor in node.input]

    def channels(self, tensor: str) -> int:
        """Number of channels of a tensor; 0 where the graph does not state it."""
        shape = self._shapes.get(tensor, [])
        return int(shape[1]) if len(shape) == 4 else 0

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """Add a float32 constant. Its name begins with `name`, which identifies the layer."""
        # Several nodes may read one constant; each gets its own replacement.
        self._made += 1
        made = f"{name}.short{self._made}"
        self._graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), made))
        return made

    def indices(self, *values: int) -> str:
        self._made += 1
        made = f"indices.short{self._made}"
        self._graph.initializer.append(numpy_helper.from_array(np.array(values, np.int64), made))
        return made

    def plain_3x3(self, node: onnx.NodeProto) -> NDArray[Any] | None:
        """The weight (O, I, 3, 3) of a convolution with padding 1, stride 1 and one group; None for any other node."""
        if node.op_type != "Conv" or node.input[1] not in self.values or self.values[node.input[1]].shape[2:] != (3, 3):
            return None
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        plain = {"pads": [1, 1, 1, 1], "strides": [1, 1], "dilations": [1, 1], "group": 1, "auto_pad": b"NOTSET"}
        is_plain = "pads" in given and all(given.get(key, value) == value for key, value in plain.items())
        return self.values[node.input[1]] if is_plain else None

    def repeats_twofold(self, node: onnx.NodeProto) -> bool:
        given = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
        wanted = {"mode": b"nearest", "coordinate_transformation_mode": b"asymmetric", "nearest_mode": b"floor"}
        return (
            node.op_type == "Resize"
            and len(node.input) == 3
            and self.values.get(node.input[2], np.zeros(0)).tolist() == [1, 1, 2, 2]
            and all(given.get(key) == value for key, value in wanted.items())
        )

    def insert_after(self, node: onnx.NodeProto, nodes: list[onnx.NodeProto]) -> None:
        self._after[node.output[0]] = nodes

    def finished(self) -> onnx.ModelProto:
        """The model with the inserted nodes and without nodes and constants that nothing reads."""
        nodes = [each for node in self._graph.node for each in (node, *self._after.get(node.output[0], []))]
        read = {value.name for value in self._graph.output}
        kept = []
        for node in reversed(nodes):
            if read & set(node.output):
                kept.append(onnx.NodeProto.FromString(node.SerializeToString()))
                read.update(node.input)
        initializers = [tensor for tensor in self._graph.initializer if tensor.name in read]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(reversed(kept))
        self._graph.initializer.extend(initializers)
        onnx.checker.check_model(self._model, full_check=True)
        return self._model


def _two_taps(weight: NDArray[Any], axis: int, place: int) -> NDArray[Any]:
    """The two taps on a line that equal three taps on the line repeated twofold, for the first or the second repetition."""
    first, second, third = np.moveaxis(weight, axis, 0)
    taps = [first, second + third] if place == 0 else [first + second, third]
    return np.stack(taps, axis)


def _interleaved(source: str, result: str) -> onnx.NodeProto:
    return _node("DepthToSpace", [source], result, blocksize=2, mode="DCR")


def _convolution(inputs: list[str], result: str, part_of: onnx.NodeProto, **values: Any) -> onnx.NodeProto:
    node = _node("Conv", inputs, result, **values)
    node.name = f"{part_of.name}.{result}"
    return node


def _node(kind: str, inputs: list[str], result: str, **values: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [result], f"{result}.made", **values)


def _attributes(**values: Any) -> list[onnx.AttributeProto]:
    return [helper.make_attribute(name, value) for name, value in values.items()]
