"""The float32 graph of a bag in FP16 or INT8, compared with torch on real fields."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import onnx

from microseg.core.schemas.fidelity import Fidelity, Float32Layer, Quantisation
from microseg.core.schemas.tolerance import Precision
from microseg.core.system.processor import instruction_sets, weight_bits
from microseg.export.calibration_fields import evenly
from microseg.export.graph_rewrites import LEAST_ENLARGED_CHANNELS_INT8, small_upsampling
from microseg.export.onnx_graph import (
    AFTER,
    BEFORE,
    CONVOLUTIONS,
    SUM,
    last_convolutions,
    layer_name,
    layers,
    outside_convolutions,
    simplified,
)
from microseg.export.precision.activations import Tiles, beyond_counter
from microseg.export.precision.fp16 import half_limits, kept_in_float32, rounded_twin, to_half
from microseg.export.precision.gate import Arithmetic, PrecisionGate, require_fidelity
from microseg.export.precision.int8 import activation_ranges, quantised, saturation_limits
from microseg.export.precision.int8_layer_search import harms, search
from microseg.runtime.runtime_config import cpu_runtimes

# Tiles on which each layer is tried alone. With few the search takes minutes.
_HARM_TILES = 4
_STRUCTURE = {BEFORE: "input", SUM: "pooling", AFTER: "output"}


@dataclass(frozen=True)
class Reduced:
    """A graph that passed the gate.

    Attributes:
        model: the graph.
        float32_layers: the layers that stayed in float32, with the reason.
        fidelity: the figures of its comparison with float32 torch.
        quantisation: how INT8 was made; None for another precision.
    """

    model: onnx.ModelProto
    float32_layers: list[Float32Layer]
    fidelity: list[Fidelity]
    quantisation: Quantisation | None = None


def reduce_precision(
    bag: onnx.ModelProto,
    precision: Precision,
    tiles: Tiles,
    gate: PrecisionGate,
    *,
    calibrated_on: str | None = None,
    symmetric: bool = False,
    progress: Callable[[str], None] = lambda step: None,
) -> Reduced:
    """Convert the graph of a bag and compare it with float32 torch.

    Args:
        bag: the float32 graph.
        precision: what the result computes in.
        tiles: calibration tiles, each uint8 (1, 1, H, W). They show which values the activations take.
        gate: what the result is compared by.
        calibrated_on: the domain that the tiles come from; None for the held-out tiles of the run.
        symmetric: INT8 without zero points (`int8.quantised`).
        progress: called with the name of each step as it begins.

    Returns:
        The graph with its figures.

    Raises:
        GateError: the graph does not agree with float32 torch.
    """
    match precision:
        case "fp32":
            fidelity = gate.compare(bag, "fp32")
            require_fidelity(fidelity, "fp32", calibrated_on)
            return Reduced(bag, [], fidelity)
        case "fp16":
            progress("converting to FP16")
            return to_fp16(bag, tiles, gate, calibrated_on)
        case "int8":
            return to_int8(bag, tiles, gate, calibrated_on, symmetric, progress)


def to_fp16(bag: onnx.ModelProto, tiles: Tiles, gate: PrecisionGate, calibrated_on: str | None) -> Reduced:
    """The graph of a bag in FP16, compared twice: rounded as FP16 hardware rounds, and as ONNX Runtime computes it.

    Args:
        bag: the float32 graph.
        tiles: calibration tiles, each uint8 (1, 1, H, W). They show which activations overflow.
        gate: what the result is compared by.
        calibrated_on: the domain that the tiles come from; None for the held-out tiles of the run.

    Returns:
        The graph with its figures.

    Raises:
        GateError: the graph does not agree with float32 torch.
    """
    plain = simplified(bag)
    kept = kept_in_float32(plain, tiles)
    half, twin = to_half(plain, kept), rounded_twin(plain, kept)
    counter = beyond_counter(twin, half_limits(plain, kept))
    fidelity = [
        *gate.with_saturation(gate.compare(twin, "fp16", "rounded to fp16"), counter),
        *gate.compare(half, "fp16"),
    ]
    require_fidelity(fidelity, "fp16", calibrated_on)
    return Reduced(half, _rows(plain, kept), fidelity)


def to_int8(
    bag: onnx.ModelProto,
    tiles: Tiles,
    gate: PrecisionGate,
    calibrated_on: str | None,
    symmetric: bool,
    progress: Callable[[str], None],
) -> Reduced:
    """The graph of a bag in INT8, compared in every installed runtime that runs it.

    Args:
        bag: the float32 graph.
        tiles: calibration tiles, each uint8 (1, 1, H, W). They set the ranges of the activations.
        gate: what the result is compared by.
        calibrated_on: the domain that the tiles come from; None for the held-out tiles of the run.
        symmetric: INT8 without zero points (`int8.quantised`).
        progress: called with the name of each step as it begins.

    Returns:
        The graph with its figures.

    Raises:
        GateError: the graph does not agree with float32 torch.
    """
    # The runtimes that `segment` may use. OpenVINO does not run the symmetric form.
    runtimes: list[Arithmetic] = ["onnxruntime"]
    if not symmetric and "openvino" in cpu_runtimes():
        runtimes.append("openvino")
    sets = instruction_sets()
    bits = weight_bits(sets)
    plain = before_int8(bag, symmetric=symmetric)
    progress("calibrating")
    ranges = activation_ranges(plain, tiles)
    always, every, last = outside_convolutions(plain), layers(plain), last_convolutions(plain)
    heads = [layer for layer in every if last & set(layer.nodes)]
    places = [layer for layer in every if layer not in heads]

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return quantised(plain, ranges, {*always, *kept}, symmetric=symmetric, reduced_range=bits == 7)

    limits = gate.limits_points("int8", 0)
    found = search(
        heads,
        places,
        build,
        lambda model: [found for name in runtimes for found in gate.compare(model, "int8", name)],
        lambda: harms(plain, places, build, evenly(tiles, _HARM_TILES), limits),
        progress,
    )
    require_fidelity(found.fidelity, "int8", calibrated_on)
    # Counted in the float32 graph: the quantised one has no ReLU, because its integers end where the ReLU would cut.
    counter = beyond_counter(plain, saturation_limits(found.model))
    reasons = dict(always)
    for layer, harm in found.kept:
        reason = (
            "its logits decide between phases"
            if harm is None
            else f"alone in INT8 it changes a phase by {harm:.2g} of its limit"
        )
        reasons |= dict.fromkeys(layer.nodes, reason)
    quantisation = Quantisation(
        activations="symmetric" if symmetric else "asymmetric",
        weight_bits=7 if bits == 7 else 8,
        instruction_sets=sets,
        calibrated_on=calibrated_on or "held-out tiles of the run",
        calibration_tiles=len(tiles),
    )
    fidelity = gate.with_saturation(found.fidelity, counter)
    return Reduced(found.model, _rows(plain, reasons), fidelity, quantisation)


def before_int8(bag: onnx.ModelProto, *, symmetric: bool) -> onnx.ModelProto:
    """The float32 graph to quantise.

    Processors take 0.9 of the time with fewer multiplications. TensorRT gets the plain graph.

    Args:
        bag: the float32 graph of a bag.
        symmetric: whether it will be quantised for TensorRT.

    Returns:
        The graph.
    """
    plain = simplified(bag)
    return plain if symmetric else simplified(small_upsampling(plain, LEAST_ENLARGED_CHANNELS_INT8))


def _rows(model: onnx.ModelProto, reasons: Mapping[str, str]) -> list[Float32Layer]:
    """One row for each layer or part of the graph, in the order of computation, with the first reason of each layer."""
    rows: dict[str, Float32Layer] = {}
    for node in model.graph.node:
        if node.name in reasons:
            reason = reasons[node.name]
            layer = _STRUCTURE.get(reason) or (layer_name(node) if node.op_type in CONVOLUTIONS else node.name)
            before = rows.get(layer)
            rows[layer] = Float32Layer(
                layer=layer, nodes=1 + (before.nodes if before else 0), reason=before.reason if before else reason
            )
    return list(rows.values())
