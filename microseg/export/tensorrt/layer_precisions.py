"""Layers of a TensorRT network by precision: of the parsed network, and of the built engine as its inspector reports them."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any, NamedTuple

# Layers that compute nothing, or convert one type into another.
_PASSIVE = {"CONSTANT", "CAST", "QUANTIZE", "DEQUANTIZE", "SHAPE", "SHUFFLE", "SQUEEZE", "UNSQUEEZE", "IDENTITY"}
_MATRIX = {"CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY"}
_NAMES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8"}
# The inspector's spelling differs by version and format: "Row major linear FP32", "Float", "Half", "Int8".
_SPELLINGS = {"fp32": "fp32", "float": "fp32", "fp16": "fp16", "half": "fp16", "bf16": "bf16", "int8": "int8"}
_SPELT = re.compile(r"\b(fp32|float|fp16|half|bf16|int8)\b", re.IGNORECASE)


class Precisions(NamedTuple):
    """Numbers of layers by precision.

    Attributes:
        layers: all layers that compute in floating point or INT8.
        matrix: the convolutions and matrix products among them.
    """

    layers: dict[str, int]
    matrix: dict[str, int]


def network_precisions(network: Any) -> Precisions:
    """Count the layers of a parsed network.

    Args:
        network: TensorRT's network definition.

    Returns:
        The counts. A matrix layer whose input and weights come from a DequantizeLinear counts as int8.
    """
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised = {layer.get_output(0).name for layer in layers if layer.type.name == "DEQUANTIZE"}
    every: Counter[str] = Counter()
    matrix: Counter[str] = Counter()
    for layer in layers:
        kind = layer.type.name
        if kind in _PASSIVE or not layer.num_outputs:
            continue
        is_quantised = kind in _MATRIX and _operands(layer) <= dequantised
        precision = "int8" if is_quantised else _NAMES.get(layer.get_output(0).dtype.name)
        if precision is None:
            continue
        every[precision] += 1
        if kind in _MATRIX:
            matrix[precision] += 1
    return Precisions(dict(every), dict(matrix))


def _operands(layer: Any) -> set[str]:
    """Names of the input and, where they are a tensor of the network, of the weights. A bias stays in floating point."""
    found = [layer.get_input(index) for index in range(min(layer.num_inputs, 2))]
    return {tensor.name for tensor in found if tensor is not None}


def engine_precisions(information: str) -> dict[str, int]:
    """Count the layers of a built engine by the type of their outputs.

    Args:
        information: JSON of TensorRT's engine inspector.

    Returns:
        Numbers of layers by precision.
    """
    counts: Counter[str] = Counter()
    for layer in json.loads(information).get("Layers", []):
        # An engine built without detailed verbosity lists only names.
        outputs = layer.get("Outputs", []) if isinstance(layer, dict) else []
        texts = [str(value) for key, value in (outputs[0].items() if outputs else ()) if "type" in key.lower()]
        if found := _SPELT.search(" ".join(texts)):
            counts[_SPELLINGS[found.group().lower()]] += 1
    return dict(counts)
