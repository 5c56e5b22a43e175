"""Shortcuts: fewer operations, the same function, at every size and for every way in which a network normalises."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from microseg.export import graph_rewrites as shortcuts
from microseg.export.graph_rewrites import grey_stem, interleaved_by_copies, narrow_heads, small_upsampling
from microseg.export.onnx_graph import constants, layers, simplified
from microseg.export.precision.sessions import onnxruntime_session
from tests.export.bags import bag

OUTPUTS = ["labels", "votes", "features", "probability"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def run(model: onnx.ModelProto, tiles: NDArray[np.uint8]) -> list[NDArray[np.float64]]:
    return [np.asarray(found, np.float64) for found in onnxruntime_session(model).run(OUTPUTS, {"tiles": tiles})]


def tiles(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (2, 1, height, width), np.uint8)


def require_same(short: onnx.ModelProto, model: onnx.ModelProto, pixels: NDArray[np.uint8]) -> None:
    for found, wanted in zip(run(short, pixels), run(model, pixels), strict=True):
        assert found.shape == wanted.shape
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def three_channels(mean: tuple[float, ...], std: tuple[float, ...]) -> onnx.ModelProto:
    """The bag with a first convolution on three channels, as networks with weights from colour images have it."""
    model = bag()
    values = {"mean": 255 * np.array(mean), "std": 255 * np.array(std)}
    rng = np.random.default_rng(3)
    for tensor in model.graph.initializer:
        if tensor.name in values:
            value = np.asarray(values[tensor.name].reshape(1, 3, 1, 1), np.float32)
        elif tensor.name.endswith("stem.weight"):
            value = np.asarray(rng.standard_normal((tensor.dims[0], 3, 3, 3)) / 3, np.float32)
        else:
            continue
        tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize(("std", "mean", "channels"), [(STD, MEAN, 2), ((0.5,) * 3, (0.5,) * 3, 1)])
def test_first_convolutions_read_grey_once(std: tuple[float, ...], mean: tuple[float, ...], channels: int) -> None:
    model = three_channels(mean, std)
    short = grey_stem(model)
    stems = [value.shape for name, value in constants(short).items() if "stem.weight" in name]
    assert [shape[1] for shape in stems] == [channels, channels]
    require_same(short, model, tiles(64, 96))  # zeros at the border count: a fifth of the pixels here


def test_a_network_for_grey_images_stays_as_it_is() -> None:
    assert kinds(grey_stem(bag())) == kinds(bag())


def test_heads_give_four_pixels_at_a_time() -> None:
    short = narrow_heads(bag())
    heads = [value.shape for name, value in constants(short).items() if "head.weight" in name]
    assert heads == [(12, 8, 4, 4)] * 2
    require_same(short, bag(), tiles(62, 96))


def test_heads_that_fill_the_lanes_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "_LANES", 8)
    assert kinds(narrow_heads(bag())) == kinds(bag())


def bare_bag() -> onnx.ModelProto:
    """A bag that enlarges a map which is joined with nothing, as the last stage of a U-Net does."""
    model = bag()
    values = constants(model)
    for node in [node for node in model.graph.node if node.op_type == "Concat" and node.output[0].startswith("joined")]:
        reader = next(after for after in model.graph.node if node.output[0] in after.input)
        reader.input[0] = node.input[0]
        model.graph.node.remove(node)
        for tensor in model.graph.initializer:
            if tensor.name == reader.input[1]:
                weight = np.ascontiguousarray(values[tensor.name][:, :8])
                tensor.CopyFrom(onnx.numpy_helper.from_array(weight, tensor.name))
    onnx.checker.check_model(model, full_check=True)
    return model


@pytest.mark.parametrize("make", [bag, bare_bag])
def test_enlarged_maps_are_convolved_small(make: Callable[[], onnx.ModelProto]) -> None:
    assert kinds(small_upsampling(make())) == kinds(make())  # eight channels: not worth it
    short = small_upsampling(make(), 8)
    assert "Resize" not in kinds(short)
    assert kinds(short).count("DepthToSpace") == 2
    weights = [value.tobytes() for value in constants(short).values() if value.ndim == 4]
    assert len(set(weights)) == len(weights)  # none is stored twice
    require_same(short, make(), tiles(62, 96))  # an odd number of rows at half the size
    assert {layer.name for layer in layers(simplified(short))} == {layer.name for layer in layers(simplified(make()))}


def test_what_follows_a_convolution_is_computed_before_its_pixels_are_interleaved() -> None:
    short = small_upsampling(bag(), 8)
    made = {name: node for node in short.graph.node for name in node.output}
    for node in short.graph.node:
        if node.op_type == "DepthToSpace":
            assert [made[name].op_type for name in made[node.input[0]].input] == ["Relu"] * 4
    model = bag()
    for node in model.graph.node:  # an activation of another kind stays where it is
        if node.op_type == "Relu" and node.input[0].endswith(".up"):
            node.op_type = "Sigmoid"
    assert kinds(small_upsampling(model, 8)).count("Sigmoid") == 2
    require_same(small_upsampling(model, 8), model, tiles(32, 40))


def test_pixels_are_interleaved_by_copies() -> None:
    short = interleaved_by_copies(narrow_heads(small_upsampling(bag(), 8)))
    assert "DepthToSpace" not in kinds(short)
    assert kinds(short).count("Split") == 2  # of the heads; of the convolutions nothing is joined first
    require_same(short, bag(), tiles(62, 96))
    assert kinds(interleaved_by_copies(bag())) == kinds(bag())


def test_an_enlarged_map_that_something_else_reads_is_kept() -> None:
    model = bag(1)
    model.graph.node.append(onnx.helper.make_node("ReduceMean", ["joined0", "space"], ["mean0"], keepdims=0))
    model.graph.output.append(onnx.helper.make_tensor_value_info("mean0", onnx.TensorProto.FLOAT, ["n", 16]))
    assert "Resize" in kinds(small_upsampling(model, 8))


def test_other_enlargements_and_convolutions_stay() -> None:
    model = bag(1)
    resize = next(node for node in model.graph.node if node.op_type == "Resize")
    mode = next(attribute for attribute in resize.attribute if attribute.name == "mode")
    mode.s = b"linear"
    assert kinds(small_upsampling(model, 8)) == kinds(model)
    strided = bag(1)
    up = next(node for node in strided.graph.node if node.name == "networks.0.up.conv")
    next(attribute for attribute in up.attribute if attribute.name == "strides").ints[:] = [2, 2]
    assert kinds(small_upsampling(strided, 8)) == kinds(strided)


@pytest.mark.parametrize(("encoder", "phases"), [("resnet18", 3), ("tf_efficientnet_lite0", 2)])
def test_exported_networks_take_every_shortcut(encoder: str, phases: int, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from microseg.export.torch_graph.bag import build_onnx, run_torch
    from microseg.models.unet import UNet

    network = UNet(encoder, phases, "none", (64, 64, 32, 16, 16)).eval()
    build_onnx([network], tmp_path / "bare.onnx")
    bare = onnx.load(tmp_path / "bare.onnx")
    short = small_upsampling(bare)
    assert kinds(bare).count("DepthToSpace") == 1
    assert kinds(short).count("DepthToSpace") > 1
    stem = next(node for node in short.graph.node if node.op_type == "Conv")
    assert constants(short)[stem.input[1]].shape[1] < 3
    pixels = tiles(96, 160)
    for model in (short, interleaved_by_copies(short)):
        np.testing.assert_allclose(run(model, pixels)[3], run_torch([network], pixels)[0], atol=1e-4)


@pytest.mark.parametrize("part", ["head.bias", "head.weight", "up.weight"])
def test_constants_that_folds_share(part: str) -> None:
    """Exporters keep equal constants once."""
    model = bag()
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == f"networks.1.{part}":
                node.input[place] = f"networks.0.{part}"
    kept = [tensor for tensor in model.graph.initializer if tensor.name != f"networks.1.{part}"]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    require_same(small_upsampling(narrow_heads(model), 8), model, tiles(32, 40))
