"""INT8 graphs: fused to integer convolutions, symmetric where TensorRT asks, and layers that cost accuracy kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from microseg.agreement.fidelity import nearest_limit
from microseg.core.errors import GateError
from microseg.core.schemas.fidelity import Fidelity
from microseg.export.calibration_fields import FieldSet, calibration_tiles
from microseg.export.onnx_graph import constants, layers, outside_convolutions, simplified
from microseg.export.precision import gate as gate_module
from microseg.export.precision import int8_layer_search
from microseg.export.precision import reduce as precision
from microseg.export.precision.activations import Range, beyond_counter
from microseg.export.precision.int8 import activation_ranges, quantised, saturation_limits
from microseg.export.precision.int8_layer_search import harms, search
from microseg.export.precision.reduce import reduce_precision
from microseg.export.precision.sessions import onnxruntime_session, openvino_session
from tests.export.bags import PHASES, bag, fields, gate

# Large enough that what INT8 does to random weights averages out over a field.
FIELDS = fields(side_px=128)
TILES = calibration_tiles(FIELDS.fields, 8)
MODEL = bag()
PLAIN = simplified(MODEL)
RANGES = activation_ranges(PLAIN, TILES)
HEADS = ["networks.0.head.conv", "networks.1.head.conv"]
OUTSIDE = {*outside_convolutions(PLAIN), *HEADS}


def optimised(model: onnx.ModelProto, folder: Path) -> Counter[str]:
    """Operators of the graph that ONNX Runtime runs."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimised.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(folder / "optimised.onnx").graph.node)


def test_convolutions_become_integer_ones_and_nothing_between_them_goes_back(tmp_path: Path) -> None:
    found = optimised(quantised(PLAIN, RANGES, OUTSIDE), tmp_path)
    assert found["QLinearConv"] == 6
    assert found["Conv"] == len(HEADS)
    assert found["QLinearConcat"] == 2
    assert found["QuantizeLinear"] == 1  # the input, which both folds share
    assert found["DequantizeLinear"] == 4  # pooled features and the head's input, per fold


def test_heads_in_int8_give_real_logits(tmp_path: Path) -> None:
    model = quantised(PLAIN, RANGES, outside_convolutions(PLAIN))
    rounded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    heads = {node.output[0]: node for node in model.graph.node if node.name in HEADS}
    assert not rounded & heads.keys() and "networks.0.up.relu" in rounded
    values = constants(model)
    weights = {node.output[0]: values[node.input[0]] for node in model.graph.node if node.input[0] in values}
    assert {weights[node.input[1]].dtype for node in heads.values()} == {np.dtype(np.int8)}
    model.graph.output.append(onnx.helper.make_tensor_value_info("networks.0.head", onnx.TensorProto.FLOAT, None))
    assert np.unique(onnxruntime_session(model).run(["networks.0.head"], {"tiles": TILES[0]})[0]).size > 10 * 256


def test_parts_of_a_convolution_are_added_on_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "LEAST_ENLARGED_CHANNELS_INT8", 8)
    assert precision.before_int8(MODEL, symmetric=True) == PLAIN
    parts = precision.before_int8(MODEL, symmetric=False)
    assert [layer.name for layer in layers(parts)] == [layer.name for layer in layers(PLAIN)]
    model = quantised(parts, activation_ranges(parts, TILES), outside_convolutions(parts), reduced_range=True)
    rounded = {node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    sums = [node for node in parts.graph.node if node.op_type == "Add" and node.output[0].endswith(".sum")]
    assert len(sums) == 8
    assert {name for node in sums for name in node.input} <= rounded
    ours, theirs = (
        running(model).run(["votes"], {"tiles": TILES[0]})[0] for running in (onnxruntime_session, openvino_session)
    )
    exact = onnxruntime_session(MODEL).run(["votes"], {"tiles": TILES[0]})[0]
    # The parts are rounded before they are added, which the runtimes do each in its way.
    assert (ours != theirs).mean() < 5e-3
    for found in (ours, theirs):
        assert (found != exact).mean() < 0.01
        moved = [abs((found == phase).mean() - (exact == phase).mean()) for phase in range(len(PHASES))]
        assert max(moved) < 0.003  # of the gate


@pytest.mark.parametrize(("reduced", "largest"), [(False, 127), (True, 64)])
def test_weights_are_symmetric_per_channel(reduced: bool, largest: int) -> None:
    model = quantised(PLAIN, RANGES, OUTSIDE, reduced_range=reduced)
    values = constants(model)
    weights = [
        node for node in model.graph.node
        if node.op_type == "DequantizeLinear" and values.get(node.input[0], np.zeros(0)).ndim == 4
    ]  # fmt: skip
    assert len(weights) == 6
    for node in weights:
        integers, scale, zero = (values[name] for name in node.input)
        assert integers.dtype == np.int8
        assert not zero.any()
        assert scale.shape == (8,)
        assert (np.abs(integers.astype(int)).max((1, 2, 3)) <= largest).all()
        assert np.abs(integers.astype(int)).max() >= largest - 1


def test_asymmetric_activations_use_zero_points_and_symmetric_ones_do_not() -> None:
    for symmetric in (False, True):
        model = quantised(PLAIN, RANGES, OUTSIDE, symmetric=symmetric)
        values = constants(model)
        zeros = [values[node.input[2]] for node in model.graph.node if node.op_type == "QuantizeLinear"]
        assert {zero.dtype for zero in zeros} == {np.dtype(np.int8 if symmetric else np.uint8)}
        assert any(zero != 0 for zero in zeros) != symmetric
        biases = [node for node in model.graph.node if "bias" in node.input[0] and node.op_type == "DequantizeLinear"]
        assert bool(biases) != symmetric


@pytest.mark.parametrize("symmetric", [False, True])
def test_an_engine_passes_the_gate_and_says_how_it_was_made(symmetric: bool) -> None:
    reduced = reduce_precision(MODEL, "int8", TILES, gate(MODEL, FIELDS), symmetric=symmetric)
    assert nearest_limit(reduced.fidelity, "int8").ratio <= 1
    assert reduced.quantisation is not None
    assert reduced.quantisation.activations == ("symmetric" if symmetric else "asymmetric")
    assert reduced.quantisation.calibration_tiles == len(TILES)
    assert {"input", "output"} <= {row.layer for row in reduced.float32_layers}
    # Whatever `segment` may take has judged.
    judges = ["onnxruntime"] if symmetric else ["onnxruntime", "openvino"]
    assert [each.arithmetic for each in reduced.fidelity] == judges
    # Calibrated and judged on the same pixels: nothing is beyond what calibration saw.
    assert not any(each.saturated for each in reduced.fidelity)


def test_every_runtime_must_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenVINO computes, and is then made to lose the cracks."""

    def lossy(model: onnx.ModelProto) -> Any:
        running = openvino_session(model)

        def run(names: list[str], feeds: dict[str, Any]) -> list[Any]:
            labels, *rest = running.run(names, feeds)
            return [np.where(labels == 2, 0, labels).astype(np.uint8), *rest]

        return SimpleNamespace(run=run)

    monkeypatch.setattr(gate_module, "openvino_session", lossy)
    with pytest.raises(GateError, match=r"\(noise, openvino\), area of \w+: "):
        reduce_precision(MODEL, "int8", TILES, gate(MODEL, FIELDS))
    monkeypatch.setattr(precision, "cpu_runtimes", lambda: ["onnxruntime"])
    found = reduce_precision(MODEL, "int8", TILES, gate(MODEL, FIELDS)).fidelity
    assert [each.arithmetic for each in found] == ["onnxruntime"]


def test_openvino_computes_what_onnx_runtime_does() -> None:
    model = quantised(PLAIN, RANGES, OUTSIDE, reduced_range=True)
    names = ["labels", "votes", "features", "probability"]
    ours, theirs = (
        running(model).run(names, {"tiles": TILES[0]}) for running in (onnxruntime_session, openvino_session)
    )
    assert [found.dtype for found in theirs] == [found.dtype for found in ours]
    # Half a step is rounded up here and down there, by the order of sums that a processor takes: few pixels, and little.
    apart = np.abs(ours[3] - theirs[3])
    assert apart.max() < 1e-2 and (apart > 1e-3).mean() < 1e-3 and (ours[0] != theirs[0]).mean() < 1e-3


def test_a_model_that_openvino_does_not_take_is_refused() -> None:
    model = onnx.ModelProto()
    model.CopyFrom(MODEL)
    model.graph.node[0].op_type = "NoSuchOperator"
    with pytest.raises(GateError, match=r"OpenVINO.*cannot load the engine.*Remedy: --precision fp16"):
        openvino_session(model)


def test_the_search_wants_a_margin_and_takes_the_best_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gate(MODEL, FIELDS).compare(PLAIN, "int8")
    *places, head = layers(PLAIN)

    def searched(ratios: dict[int, float]) -> tuple[int, list[int]]:
        """Layers kept, and the tries, where the figure after keeping n nodes is `ratios[n]` of its limit."""
        tried: list[int] = []

        def build(kept: Any) -> onnx.ModelProto:
            tried.append(len(list(kept)))
            return PLAIN

        def judged(model: onnx.ModelProto) -> list[Fidelity]:
            return [found[0].model_copy(update={"label_limit": ratios[tried[-1]]})]

        monkeypatch.setattr(
            int8_layer_search,
            "nearest_limit",
            lambda figures, precision: replace(nearest_limit(found, precision), ratio=figures[0].label_limit),
        )
        kept = search([head], places, build, judged, lambda: [1.0, 3.0, 2.0], lambda step: None).kept
        return len(kept), tried

    assert searched({0: 0.8}) == (0, [0])
    assert searched({0: 0.9, 2: 0.7}) == (1, [0, 2])
    assert searched({0: 0.95, 2: 0.9, 4: 0.97}) == (1, [0, 2, 4])


def test_saturation_is_counted_beyond_what_calibration_saw() -> None:
    count = beyond_counter(PLAIN, saturation_limits(quantised(PLAIN, RANGES, OUTSIDE)))
    assert count(TILES[0]) == 0
    flat = {name: Range(found.low / 4, found.high / 4, found.magnitudes) for name, found in RANGES.items()}
    count = beyond_counter(PLAIN, saturation_limits(quantised(PLAIN, flat, OUTSIDE)))
    assert count(TILES[0]) > 100


def exact_session(model: onnx.ModelProto) -> Any:
    """The graph as it stands: products of 8 bits, which saturate in the integers of processors without VNNI, do not."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def spoilt() -> onnx.ModelProto:
    """A bag with a weight in `down` that leaves no steps for the others of its channel."""
    model = bag()
    for tensor in model.graph.initializer:
        if tensor.name.endswith("down.weight"):
            values = onnx.numpy_helper.to_array(tensor).copy()
            # A pixel that the ReLU before it never lights: without effect in float32, all of the scale in INT8.
            values[:, 0] = 500.0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        if tensor.name.endswith("stem.bias"):
            values = onnx.numpy_helper.to_array(tensor).copy()
            values[0] = -100.0
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


@pytest.mark.parametrize("bits", [7, 8])
def test_the_layer_that_costs_accuracy_is_blamed(bits: int) -> None:
    plain = simplified(spoilt())
    ranges = activation_ranges(plain, TILES)

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return quantised(plain, ranges, {*outside_convolutions(plain), *kept}, reduced_range=bits == 7)

    found = harms(plain, layers(plain), build, TILES, gate(spoilt(), FIELDS).limits_points("int8", 0))
    worst_two = sorted(zip(found, (place.name for place in layers(plain)), strict=True))[-2:]
    assert worst_two[1][1] == "down" and worst_two[1][0] > 2 * worst_two[0][0]


def test_the_layer_that_costs_accuracy_is_found_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "weight_bits", lambda found: 8)
    monkeypatch.setattr(precision, "cpu_runtimes", lambda: ["onnxruntime"])
    monkeypatch.setattr(gate_module, "onnxruntime_session", exact_session)
    model = spoilt()
    judged = gate(model, FIELDS)
    plain = simplified(model)
    found = activation_ranges(plain, TILES)
    every = quantised(plain, found, {*outside_convolutions(plain), *HEADS})
    assert nearest_limit(judged.compare(every, "int8"), "int8").ratio > 1
    reduced = reduce_precision(model, "int8", TILES, judged)
    kept = {row.layer: row for row in reduced.float32_layers}
    assert kept["down"].nodes == 2
    assert "of its limit" in kept["down"].reason
    assert "stem" not in kept and "up" not in kept


def one_large_channel() -> onnx.ModelProto:
    """A bag in which one channel between `down` and `up` is 3000 times as large: the same function in float32."""
    model = bag()
    for tensor in model.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor).copy()
        if "down." in tensor.name:
            values[0] *= 3000
        elif tensor.name.endswith("up.weight"):
            values[:, 0] /= 3000
        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return model


@pytest.mark.parametrize("symmetric", [False, True])
def test_layers_that_are_kept_read_what_is_not_rounded(symmetric: bool) -> None:
    """Pooled, enlarged and joined maps between them, too: 8 bits there leave no steps to what is not the large channel."""
    plain = simplified(one_large_channel())
    ranges = activation_ranges(plain, TILES)
    every = {layer.name: layer.nodes for layer in layers(plain)}

    def difference(*names: str) -> float:
        kept = {*OUTSIDE, *(node for name in names for node in every[name])}
        model = quantised(plain, ranges, kept, symmetric=symmetric)
        if {"stem", "down", "up"} == set(names):
            assert not any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)
        found, exact = (
            onnxruntime_session(each).run(["probability"], {"tiles": TILES[0]})[0] for each in (model, plain)
        )
        return float(np.abs(found - exact).mean())

    assert difference("stem", "down", "up") == 0
    assert difference("down", "up") < difference("down") / 10
    assert difference("down", "up") < difference("up")

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return quantised(plain, ranges, {*OUTSIDE, *kept}, symmetric=symmetric)

    found = harms(plain, layers(plain), build, TILES, gate(MODEL, FIELDS).limits_points("int8", 0))
    assert min(found[1:3]) > found[0]


@pytest.mark.parametrize("symmetric", [False, True])
def test_between_a_kept_layer_and_one_before_it_nothing_is_rounded_again(symmetric: bool) -> None:
    """`up` is kept and reads the enlarged and joined maps of `stem` and `down`, which are in INT8."""
    every = {layer.name: layer.nodes for layer in layers(PLAIN)}
    made = quantised(PLAIN, RANGES, {*OUTSIDE, *every["up"]}, symmetric=symmetric)
    rounded = {node.input[0] for node in made.graph.node if node.op_type == "QuantizeLinear"}
    assert "networks.0.stem.relu" in rounded
    assert not rounded & {"large0", "joined0", "large1", "joined1"}
    reads = {node.name: node.input[0] for node in made.graph.node}
    assert all(reads[name] == f"joined{fold}" for fold, name in enumerate(every["up"]))
    makers = {name: node for node in made.graph.node for name in node.output}
    for node in (
        node for node in made.graph.node if node.op_type in ("Resize", "Concat") and node.output[0][-1] in "01"
    ):
        if symmetric:  # TensorRT's form rounds at the inputs of convolutions alone
            assert all(makers[name].op_type != "DequantizeLinear" for name in node.input if name in makers)


def test_a_kept_layer_reads_the_exact_weights_that_it_shares() -> None:
    model = bag()
    for node in model.graph.node:
        if node.name == "networks.1.down.conv":
            node.input[1:] = ["networks.0.down.weight", "networks.0.down.bias"]
    plain = simplified(model)
    made = quantised(plain, activation_ranges(plain, TILES), {*outside_convolutions(plain), "networks.1.down.conv"})
    for place, name in ((1, "weight"), (2, "bias")):
        read = {node.name: node.input[place] for node in made.graph.node if node.op_type == "Conv"}
        exact = constants(plain)[f"networks.0.down.{name}"]
        assert np.array_equal(constants(made)[read["networks.1.down.conv"]], exact)
        assert read["networks.0.down.conv"] not in constants(made)


def test_harm_is_measured_layer_by_layer() -> None:
    places = layers(PLAIN)

    def build(kept: Collection[str]) -> onnx.ModelProto:
        return quantised(PLAIN, RANGES, {*outside_convolutions(PLAIN), *kept})

    limits = gate(MODEL, FIELDS).limits_points("int8", 0)
    fine = harms(PLAIN, places, build, TILES, limits)
    assert [place.name for place in places] == ["stem", "down", "up", "head"]
    assert all(0 < harm < 100 for harm in fine)
    coarse = RANGES | {"normalised": Range(-300.0, 300.0, (300.0,))}
    worse = harms(
        PLAIN, places, lambda kept: quantised(PLAIN, coarse, {*outside_convolutions(PLAIN), *kept}), TILES, limits
    )
    assert worse[0] > 5 * fine[0]
    assert worse[1:] == fine[1:]


def test_a_search_without_success_keeps_at_most_half_and_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    judged = gate(MODEL, FIELDS)
    monkeypatch.setattr(
        int8_layer_search, "nearest_limit", lambda found, precision: replace(nearest_limit(found, precision), ratio=2.0)
    )
    tried = []

    def build(kept: object) -> onnx.ModelProto:
        tried.append(len(list(kept)))  # type: ignore[call-overload]
        return PLAIN

    *places, head = layers(PLAIN)
    found = search(
        [head], places, build, lambda model: judged.compare(model, "int8"), lambda: [1.0, 3.0, 2.0], lambda step: None
    )
    assert tried == [0, 2, 4]
    assert [(layer.name, harm) for layer, harm in found.kept] == [("head", None), ("down", 3.0)]


def test_tiles_of_another_material_are_named_as_the_cause() -> None:
    """Ranges from dark, flat fields cut off what the run's own fields hold."""
    flat = calibration_tiles([field.__class__(field.name, field.pixels // 16 + 120) for field in FIELDS.fields], 8)
    with pytest.raises(GateError, match=r"calibrated on wood\. If that is another material") as caught:
        reduce_precision(MODEL, "int8", flat, gate(MODEL, FIELDS), calibrated_on="wood")
    assert "Nothing was written" in str(caught.value)


def test_a_bag_of_one_field_set_is_judged_on_all_of_them() -> None:
    found = gate(MODEL, FIELDS, FieldSet("others", fields(seed=5).fields)).compare(PLAIN, "fp32")
    assert [each.fields_from for each in found] == ["noise", "others"]
