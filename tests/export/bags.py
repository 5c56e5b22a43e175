"""A small bag of folds as an ONNX graph, without torch and without training: what precision does to it is quick to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from scipy.ndimage import gaussian_filter

from microseg.export.calibration_fields import Field, FieldSet
from microseg.export.onnx_graph import fold_logits
from microseg.export.precision.gate import PrecisionGate
from microseg.export.precision.sessions import onnxruntime_session

PHASES = ("matrix", "oxide", "crack")
WIDTH = 8


def fields(count: int = 2, side_px: int = 64, seed: int = 0) -> FieldSet:
    """Dark matrix, grey oxide and a few bright cracks, uint8, with a little noise."""
    rng = np.random.default_rng(seed)
    made = []
    for index in range(count):
        smooth = gaussian_filter(rng.standard_normal((side_px, side_px)), 3)
        phase = np.digitize(smooth, np.quantile(smooth, [0.6, 0.97]))
        grey = np.array([70, 140, 220])[phase] + 3 * rng.standard_normal(phase.shape)
        made.append(Field(f"field{index}", np.clip(grey, 0, 255).astype(np.uint8)))
    return FieldSet("noise", tuple(made))


def bag(folds: int = 2, *, gain: dict[str, float] | None = None, crack: float = 0.0) -> onnx.ModelProto:
    """Encoder, pooled features, a decoder with a skip, a head and a softmax, per fold; weights are random.

    gain: multiplies the weights and bias of `stem`, `down`, `up` or `head` of every fold. crack: added to the crack's logit.
    """
    gain = gain or {}
    rng = np.random.default_rng(20)
    constants: dict[str, NDArray[Any]] = {
        "mean": np.array(128, np.float32),
        "std": np.array(40, np.float32),
        "folds": np.array(folds, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "channel": np.array([1], np.int64),
        "space": np.array([2, 3], np.int64),
    }
    make = helper.make_node
    nodes = [
        make("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        make("Sub", ["grey", "mean"], ["centred"]),
        make("Div", ["centred", "std"], ["normalised"]),
    ]

    def conv(
        fold: int, name: str, source: str, shape: tuple[int, int], bias: NDArray[np.float64], step: int = 1
    ) -> str:
        out, inside = shape
        key = f"networks.{fold}.{name}"
        weight = rng.standard_normal((out, inside, 3, 3)) / np.sqrt(4.5 * inside)
        constants[f"{key}.weight"] = (weight * gain.get(name, 1.0)).astype(np.float32)
        constants[f"{key}.bias"] = (bias * gain.get(name, 1.0)).astype(np.float32)
        nodes.append(
            make(
                "Conv", [source, f"{key}.weight", f"{key}.bias"], [key], name=f"{key}.conv",
                kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[step, step],
            )
        )  # fmt: skip
        return key

    def relu(source: str) -> str:
        nodes.append(make("Relu", [source], [f"{source}.relu"]))
        return f"{source}.relu"

    for fold in range(folds):
        stem = relu(conv(fold, "stem", "normalised", (WIDTH, 1), 0.1 * rng.standard_normal(WIDTH)))
        down = relu(conv(fold, "down", stem, (WIDTH, WIDTH), 0.1 * rng.standard_normal(WIDTH), step=2))
        nodes.append(make("ReduceMean", [down, "space"], [f"pooled{fold}"], keepdims=0))
        nodes.append(make("Unsqueeze", [f"pooled{fold}", "channel"], [f"feature{fold}"]))
        nodes.append(make("Resize", [down, "", "scales"], [f"large{fold}"], mode="nearest",
                          coordinate_transformation_mode="asymmetric", nearest_mode="floor"))  # fmt: skip
        nodes.append(make("Concat", [f"large{fold}", stem], [f"joined{fold}"], axis=1))
        up = relu(conv(fold, "up", f"joined{fold}", (WIDTH, 2 * WIDTH), 0.1 * rng.standard_normal(WIDTH)))
        logits = conv(fold, "head", up, (3, WIDTH), np.array([0.0, 0.0, crack]))
        nodes += [
            make("ArgMax", [logits], [f"vote64{fold}"], axis=1, keepdims=1),
            make("Cast", [f"vote64{fold}"], [f"vote{fold}"], to=TensorProto.UINT8),
            make("ReduceMax", [logits, "channel"], [f"top{fold}"]),
            make("Sub", [logits, f"top{fold}"], [f"below{fold}"]),
            make("Exp", [f"below{fold}"], [f"raised{fold}"]),
            make("ReduceSum", [f"raised{fold}", "channel"], [f"total{fold}"]),
            make("Div", [f"raised{fold}", f"total{fold}"], [f"probability{fold}"]),
        ]
    each = range(folds)
    nodes += [
        make("Sum", [f"probability{fold}" for fold in each], ["summed"]),
        make("Div", ["summed", "folds"], ["probability"]),
        make("ArgMax", ["probability"], ["labels64"], axis=1, keepdims=0),
        make("Cast", ["labels64"], ["labels"], to=TensorProto.UINT8),
        make("Concat", [f"vote{fold}" for fold in each], ["votes"], axis=1),
        make("Concat", [f"feature{fold}" for fold in each], ["features"], axis=1),
    ]
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "bag",
        [info("tiles", TensorProto.UINT8, ["n", 1, "h", "w"])],
        [
            info("labels", TensorProto.UINT8, ["n", "h", "w"]),
            info("votes", TensorProto.UINT8, ["n", folds, "h", "w"]),
            info("features", TensorProto.FLOAT, ["n", folds, WIDTH]),
            info("probability", TensorProto.FLOAT, ["n", len(PHASES), "h", "w"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model, full_check=True)
    return model


def probabilities(model: onnx.ModelProto) -> Callable[[NDArray[np.uint8]], list[NDArray[np.float32]]]:
    """What stands for torch: each fold's probability, float32 (1, P, H, W), by the float32 graph."""
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    names = [f"probability{fold}" for fold in range(len(fold_logits(model)))]
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    running = onnxruntime_session(watched)
    return lambda pixels: list(running.run(names, {"tiles": pixels}))


def gate(model: onnx.ModelProto, *sets: FieldSet) -> PrecisionGate:
    """The gate of what is made of `model`."""
    return PrecisionGate(sets or (fields(),), PHASES, stride=8, halo_px=8, torch=probabilities(model))
