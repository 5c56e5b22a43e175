"""Bias correction: INT8 convolutions keep the mean of every channel."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from microseg.export.calibration_fields import calibration_tiles
from microseg.export.onnx_graph import outside_convolutions, simplified
from microseg.export.precision import int8
from microseg.export.precision.activations import Range
from microseg.export.precision.int8_bias import correct_biases
from microseg.export.precision.sessions import onnxruntime_session
from tests.export.bags import bag, fields

TILES = calibration_tiles(fields().fields, 8)
PLAIN = simplified(bag())
RANGES = int8.activation_ranges(PLAIN, TILES)


def means(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Mean of every channel of what each convolution gives, over the tiles, by the convolution's name."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    outputs = {node.name: node.output[0] for node in model.graph.node if node.op_type == "Conv"}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in outputs.values()
    )
    running = onnxruntime_session(watched)
    runs = [running.run(list(outputs.values()), {"tiles": pixels}) for pixels in TILES]
    return {name: np.mean([run[i].mean((0, 2, 3)) for run in runs], 0) for i, name in enumerate(outputs)}


@pytest.mark.parametrize("symmetric", [False, True])
def test_the_mean_of_every_channel_stays(symmetric: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def shifts() -> NDArray[Any]:
        kept = outside_convolutions(PLAIN)
        found = means(int8.quantised(PLAIN, RANGES, kept, symmetric=symmetric, reduced_range=True))
        return np.concatenate([found[name] - exact for name, exact in means(PLAIN).items()])

    corrected = shifts()
    monkeypatch.setattr(int8, "correct_biases", lambda *parts: None)
    assert np.abs(corrected).mean() < 0.5 * np.abs(shifts()).mean()


def graph(nodes: list[onnx.NodeProto], **named: NDArray[Any]) -> onnx.ModelProto:
    """From x to y, both float32, with constants by name."""
    info = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in ("x", "y")]
    constants = [onnx.numpy_helper.from_array(value, name) for name, value in named.items()]
    made = onnx.helper.make_graph(nodes, "one", info[:1], info[1:], constants)
    return onnx.helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=9)


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("has_bias", [True, False])
def test_what_weights_add_to_constant_channels_is_taken_off(groups: int, has_bias: bool) -> None:
    """Float32 with a DequantizeLinear at the weights, of which every channel is the same all over: no border, no rounding."""
    rng = np.random.default_rng(groups)
    weight = rng.standard_normal((4, 4 // groups, 3, 3)).astype(np.float32)
    integers, scale = rng.integers(-64, 64, weight.shape).astype(np.int8), np.full(4, 0.05, np.float32)
    bias = rng.standard_normal(4).astype(np.float32)
    of_each = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
    make = onnx.helper.make_node
    of_bias = {"bias": bias} if has_bias else {}
    inputs = ["x", "w", *(["bias"] if has_bias else [])]
    conv = make("Conv", inputs, ["y"], "conv", group=groups)
    exact = graph([conv], w=weight, **of_bias)
    back = make("DequantizeLinear", ["integers", "scale", "zero"], ["w"], axis=0)
    model = graph([back, conv], integers=integers, scale=scale, zero=np.zeros(4, np.int8), **of_bias)
    correct_biases(model, exact, {"x": Range(-2, 3, (3,), tuple(of_each.tolist()), (5, 5))})
    pixels = np.broadcast_to(of_each[None, :, None, None], (1, 4, 5, 5)).astype(np.float32)
    ours, theirs = (onnxruntime_session(each).run(["y"], {"x": pixels})[0] for each in (model, exact))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    untouched = graph([back, conv], integers=integers, scale=scale, zero=np.zeros(4, np.int8), **of_bias)
    before = untouched.SerializeToString()
    correct_biases(untouched, exact, {})
    assert untouched.SerializeToString() == before


@pytest.mark.parametrize(("dilation", "step", "side"), [(1, 1, 8), (1, 2, 8), (6, 1, 16), (18, 1, 32)])
def test_a_border_of_zeros_adds_nothing(dilation: int, step: int, side: int) -> None:
    """The mean over the map stays, also where wide taps mostly meet the border (Chen et al. 2018: rates up to 24)."""
    rng = np.random.default_rng(dilation)
    weight = rng.standard_normal((4, 2, 3, 3)).astype(np.float32)
    integers, scale = rng.integers(-64, 64, weight.shape).astype(np.int8), np.full(4, 0.05, np.float32)
    make = onnx.helper.make_node
    conv = make(
        "Conv", ["x", "w"], ["y"], "conv", pads=4 * [dilation], dilations=2 * [dilation], strides=2 * [step]
    )  # fmt: skip
    back = make("DequantizeLinear", ["integers", "scale", "zero"], ["w"], axis=0)
    exact = graph([conv], w=weight)
    model = graph([back, conv], integers=integers, scale=scale, zero=np.zeros(4, np.int8))
    correct_biases(model, exact, {"x": Range(1, 2, (2,), (1.0, 2.0), (side, side))})
    pixels = np.broadcast_to(np.array([1, 2], np.float32)[None, :, None, None], (1, 2, side, side)).copy()
    ours, theirs = (onnxruntime_session(each).run(["y"], {"x": pixels})[0].mean((0, 2, 3)) for each in (model, exact))
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
