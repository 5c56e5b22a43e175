"""The networks of the folds as one ONNX graph: uint8 tiles in; labels, votes, features and probability out. Needs torch."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from microseg.export.graph_rewrites import grey_stem, narrow_heads
from microseg.models.build import load_folds
from microseg.models.network import Network

__all__ = ["build_onnx", "load_folds", "run_torch"]

OPSET = 18
OUTPUTS = ("labels", "votes", "features", "probability")


class BagOutput(NamedTuple):
    """The outputs of a bag of F folds for N tiles of H x W pixels and P phases.

    Attributes:
        labels: decision of the bag, uint8 (N, H, W).
        votes: decision of each fold, uint8 (N, F, H, W).
        features: pooled features of each fold, float32 (N, F, D).
        probability: mean probability over the folds, float32 (N, P, H, W).
    """

    labels: Tensor
    votes: Tensor
    features: Tensor
    probability: Tensor


class Bag(nn.Module):
    """Bagging as in Goetz et al., npj Comput. Mater. 2022: the mean of the folds' probabilities decides.

    The heads of a student count as folds.
    """

    def __init__(self, networks: Sequence[Network]) -> None:
        """Wrap trained networks of one architecture."""
        super().__init__()
        self.is_of_two = networks[0].phases == 2
        wrapped = [network.with_margins() for network in networks] if self.is_of_two else networks
        self.networks: Iterable[Network] = nn.ModuleList(wrapped)  # type: ignore[assignment]

    def forward(self, tiles: Tensor) -> BagOutput:
        """Compute tiles uint8 (N, 1, H, W), H and W multiples of the stride."""
        votes, features = [], []
        total: Tensor | None = None
        for network in self.networks:
            out = network(tiles)
            vote, soft = _of_two(out.logits) if self.is_of_two else _of_many(out.logits, network.heads)
            votes.append(vote)
            features += [out.features] * network.heads
            total = soft if total is None else total + soft
        assert total is not None
        voted, mean = torch.cat(votes, 1), total / len(features)
        if len(features) == 1:  # one fold decides alone, so labels need no probability
            labels = voted.squeeze(1)
        else:
            labels = ((mean > 0.5).squeeze(1) if self.is_of_two else mean.argmax(1)).to(torch.uint8)
        probability = torch.cat([1 - mean, mean], 1) if self.is_of_two else mean
        return BagOutput(labels, voted, torch.stack(features, 1), probability)


def _map_after_map(logits: Tensor) -> Tensor:
    """(N, C, H, W) as (N, 1, C, H, W).

    Runtimes store a tensor with more axes than a convolution has one map after the other. Comparisons of the maps are ten
    times as fast then.
    """
    return logits.unsqueeze(1)


def _of_two(margins: Tensor) -> tuple[Tensor, Tensor]:
    """Votes uint8 (N, heads, H, W), and the sum over heads of the second phase's probability, float (N, 1, H, W)."""
    planes = _map_after_map(margins)
    soft = planes.sigmoid()
    return (planes > 0).to(torch.uint8).squeeze(1), soft.squeeze(2) if soft.shape[2] == 1 else soft.sum(2)


def _of_many(logits: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Votes uint8 (N, heads, H, W), and the sum over heads of the probabilities, float (N, P, H, W)."""
    planes = _map_after_map(logits)
    each = planes.chunk(heads, 2) if heads > 1 else [planes]
    total = _softmax(each[0])
    for others in each[1:]:
        total = total + _softmax(others)
    return torch.cat([head.argmax(2).to(torch.uint8) for head in each], 1), total.squeeze(1)


def _softmax(logits: Tensor) -> Tensor:
    """Softmax over axis 2, written out: ONNX Runtime's Softmax moves that axis to the end and takes five times as long."""
    raised = (logits - logits.amax(2, keepdim=True)).exp()
    return raised / raised.sum(2, keepdim=True)


def build_onnx(networks: Sequence[Network], path: Path) -> None:
    """Write the bag as an ONNX file with dynamic N, H and W, with the weights inside and without metadata.

    Args:
        networks: the trained networks, one for each fold.
        path: the .onnx file to write.
    """
    bag = Bag([network.eval().cpu().to(memory_format=torch.contiguous_format) for network in networks]).eval()
    stride = networks[0].stride
    # Exported at one size and made dynamic afterwards, because the exporter takes minutes for symbolic sizes. Only the
    # upsampling of the decoder depends on the size; `_any_size` rewrites it.
    tiles = torch.zeros((2, 1, 4 * stride, 5 * stride), dtype=torch.uint8)
    # The exporter prints its progress and warns about its internals. Neither helps a user of microseg.
    with _errors_only("torch.onnx"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            bag,
            (tiles,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["tiles"],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert program is not None
    model = program.model_proto
    _any_size(model, stride)
    _drop_exporter_notes(model.graph)
    model = narrow_heads(grey_stem(model))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def _drop_exporter_notes(graph: onnx.GraphProto) -> None:
    """Remove the exporter's notes: they hold paths of this machine, and would make the hash of the network depend on them."""
    for part in (graph, *graph.node, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


@contextmanager
def _errors_only(name: str) -> Iterator[None]:
    """Within the block, a logger passes on only errors."""
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _any_size(model: onnx.ModelProto, stride: int) -> None:
    """Make N, H and W of inputs and outputs dynamic, and every Resize a fixed scale instead of a fixed size."""
    inferred = onnx.shape_inference.infer_shapes(model)
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output)
    }
    for node in model.graph.node:
        if node.op_type == "Resize":
            before, after = shapes[node.input[0]], shapes[node.output[0]]
            name = f"{node.output[0]}_scales"
            scales = np.array(after, np.float32) / np.array(before, np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(scales, name))
            source = node.input[0]
            del node.input[:]
            node.input.extend([source, "", name])
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        dims[0].dim_param = "n"
        if len(dims) > 3 or value.name == "labels":
            dims[-2].dim_param, dims[-1].dim_param = f"{stride}*h", f"{stride}*w"


def run_torch(networks: Sequence[Network], tiles: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """Compute the probabilities of each fold with torch on the CPU.

    Args:
        networks: the trained networks.
        tiles: uint8 (N, 1, H, W).

    Returns:
        One array for each fold, float32 (N, P, H, W).
    """
    with torch.inference_mode():
        batch = torch.tensor(tiles)
        outs = [out for network in networks for out in network.eval().cpu().of_heads(batch)]
        return [out.logits.softmax(1).numpy() for out in outs]
