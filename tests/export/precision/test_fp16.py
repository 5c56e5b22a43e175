"""FP16 graphs: typed throughout, float32 where FP16 would overflow or lose its digits, and no further from float32."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

from microseg.agreement.fidelity import nearest_limit
from microseg.core.errors import GateError
from microseg.export.calibration_fields import calibration_tiles
from microseg.export.onnx_graph import AFTER, BEFORE, CONVOLUTIONS, outside_convolutions, simplified
from microseg.export.precision import reduce as module
from microseg.export.precision.fp16 import kept_in_float32, rounded_twin, to_half
from microseg.export.precision.reduce import reduce_precision
from microseg.export.precision.sessions import onnxruntime_session
from tests.export.bags import bag, fields, gate

TILES = calibration_tiles(fields().fields, 8)
# Each loses FP16's range elsewhere: activations, weights and activations above and below, weights of the logits.
OVERFLOW = {"stem": 300.0, "down": 300.0, "up": 1e-4}
GAINS = [OVERFLOW, {"stem": 1e-8, "down": 1e8}, {"head": 1e5}]


def types(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: value.type.tensor_type.elem_type for value in values} | {
        tensor.name: tensor.data_type for tensor in graph.initializer
    }


def test_every_node_has_one_floating_type_and_all_layers_are_half() -> None:
    plain = simplified(bag())
    half = to_half(plain, kept_in_float32(plain, TILES))
    found = types(half)
    floating = {TensorProto.FLOAT, TensorProto.FLOAT16}
    for node in half.graph.node:
        if node.op_type == "Cast":
            continue
        read = {found[name] for name in (node.input[:1] if node.op_type == "Resize" else node.input)}
        made = {found[name] for name in node.output}
        assert len((read | made) & floating) <= 1, node
        if node.op_type in CONVOLUTIONS:
            assert TensorProto.FLOAT16 in made, node
    before, after = types(plain), found
    for value in (*plain.graph.input, *plain.graph.output):
        assert after[value.name] == before[value.name]
    assert half.ByteSize() < 0.75 * plain.ByteSize()


def test_normalisation_softmax_and_pooled_features_stay_float32() -> None:
    plain = simplified(bag())
    kept = outside_convolutions(plain)
    by_kind = {kind: {n.op_type for n in plain.graph.node if kept.get(n.name) == kind} for kind in (BEFORE, AFTER)}
    assert by_kind[BEFORE] == {"Cast", "Sub", "Div"}
    assert {"ReduceMean", "ReduceMax", "Exp", "ReduceSum", "Div", "ArgMax"} <= by_kind[AFTER]
    assert not {"Conv", "Relu", "Resize"} & (by_kind[BEFORE] | by_kind[AFTER])


def test_the_reference_pass_finds_overflow() -> None:
    plain = simplified(bag(gain=OVERFLOW))
    naive = outside_convolutions(plain)
    judged = gate(bag(gain=OVERFLOW))
    assert judged.compare(rounded_twin(plain, naive), "fp16", "rounded to fp16")[0].not_a_number > 0
    kept = kept_in_float32(plain, TILES)
    assert {name for name in kept if name not in naive} >= {f"networks.{fold}.down.conv" for fold in (0, 1)}
    assert any("activations up to" in reason for reason in kept.values())
    assert judged.compare(rounded_twin(plain, kept), "fp16", "rounded to fp16")[0].not_a_number == 0


@pytest.mark.parametrize("gain", GAINS, ids=str)
def test_what_fp16_cannot_hold_stays_float32_and_the_gate_opens(gain: dict[str, float]) -> None:
    model = bag(gain=gain)
    reduced = reduce_precision(model, "fp16", TILES, gate(model))
    plain = {row.layer for row in reduce_precision(bag(), "fp16", TILES, gate(bag())).float32_layers}
    more = [row for row in reduced.float32_layers if row.layer not in plain]
    assert more
    assert all("FP16" in row.reason for row in more)
    assert nearest_limit(reduced.fidelity, "fp16").ratio <= 1
    assert [each.arithmetic for each in reduced.fidelity] == ["rounded to fp16", "onnxruntime"]
    assert all(each.not_a_number == each.saturated == 0 for each in reduced.fidelity)


def test_overflow_that_calibration_did_not_see_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "kept_in_float32", lambda model, tiles: outside_convolutions(model))
    model = bag(gain=OVERFLOW)
    with pytest.raises(GateError, match=r"rounded to fp16: \d+ values are not numbers, [1-9]\d* activations overflow"):
        reduce_precision(model, "fp16", TILES, gate(model))


def test_a_value_within_the_headroom_is_left_to_fp16() -> None:
    """The rule follows the measured maximum: 4 x it beyond 65504 stays float32, below does not."""
    plain = simplified(bag())
    reached = session_maximum(plain)
    for factor, stays in ((0.9, False), (1.1, True)):
        scaled = simplified(bag(gain={"stem": factor * 65504 / 4 / reached}))
        # ReLU's own maximum is that of the positive side; the convolution's may be larger.
        kept = kept_in_float32(scaled, TILES)
        assert any(name.endswith("stem.conv") for name in kept) == stays


def session_maximum(plain: onnx.ModelProto) -> float:
    """Largest magnitude that a stem makes of the tiles."""
    watched = onnx.ModelProto()
    watched.CopyFrom(plain)
    names = [node.output[0] for node in plain.graph.node if node.name.endswith("stem.conv")]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    running = onnxruntime_session(watched)
    return float(max(np.abs(values).max() for tile in TILES for values in running.run(names, {"tiles": tile})))


def test_the_twin_rounds_what_the_graph_stores() -> None:
    """Twin and graph differ by the order of summation alone: the graph's float32 sums are rounded at its casts."""
    model = bag()
    plain = simplified(model)
    kept = kept_in_float32(plain, TILES)
    soft = [
        onnxruntime_session(graph).run(["probability"], {"tiles": TILES[0]})[0]
        for graph in (plain, rounded_twin(plain, kept), to_half(plain, kept))
    ]
    assert 1e-6 < np.abs(soft[1] - soft[0]).max() < 2e-2
    assert np.abs(soft[2] - soft[0]).max() < 2e-2


def test_a_full_disk_is_told_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime says of it that serialisation failed."""

    def fails(*given: object, **options: object) -> None:
        raise RuntimeError("Protobuf serialization failed")

    monkeypatch.setattr(onnxruntime, "InferenceSession", fails)
    with pytest.raises(RuntimeError):
        simplified(bag())
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(OSError, match="no room in the temporary folder"):
        simplified(bag())
