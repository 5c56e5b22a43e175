"""The graph that TensorRT parses says what the engine says, and reads nothing but the engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from microseg.core.errors import InputError
from microseg.export.tensorrt.plan_graph import plan_graph
from microseg.runtime import open_engine, read_manifest
from tests.plans import as_engine


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("name", ["exported", "tiny_engine"])
def test_the_graph_says_what_the_engine_says(name: str, keep: bool, request: pytest.FixtureRequest) -> None:
    engine: Path = request.getfixturevalue(name)
    content = plan_graph(engine, keep)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    outputs = [output.name for output in session.get_outputs()]
    assert outputs == ["labels", "votes", "features", *(["probability"] if keep else [])]
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 48, 64), np.uint8)
    found = dict(zip(outputs, session.run(outputs, {"tiles": pixels}), strict=True))
    theirs = open_engine(engine, threads=1).run(pixels, features=True, probability=True)
    for output, value in found.items():
        assert value.dtype == getattr(theirs, output).dtype
        assert np.array_equal(value, getattr(theirs, output))


def test_no_byte_lies_between_layers(exported: Path) -> None:
    model = onnx.load_from_string(plan_graph(exported, keep_probability=False))
    inferred = onnx.shape_inference.infer_shapes(model)
    kinds = {value.name for value in inferred.graph.value_info if value.type.tensor_type.elem_type == TensorProto.UINT8}
    assert not kinds


def test_a_file_cut_off(exported: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    path.write_bytes(exported.read_bytes()[:-50_000])
    with pytest.raises(InputError, match="cut off"):
        plan_graph(path, keep_probability=False)


@pytest.mark.parametrize(
    ("location", "told"),
    [
        ("weights.bin", r"keeps its weights in 'weights\.bin', which is missing"),
        (
            "../../../etc/passwd",
            r"its weights are in '\.\./\.\./\.\./etc/passwd', outside its folder\. It was not loaded",
        ),
        ("/etc/passwd", r"its weights are in '/etc/passwd', outside its folder\. It was not loaded"),
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_weights_in_another_file_are_never_read(
    tiny_engine: Path, tmp_path: Path, location: str, told: str, nested: bool
) -> None:
    model = onnx.load(tiny_engine)
    outside = TensorProto(name="outside", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    outside.external_data.add(key="location", value=location)
    if nested:
        branch = helper.make_graph([helper.make_node("Constant", [], ["c"], value=outside)], "branch", [], [])
        model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))
    else:
        model.graph.initializer.append(outside)
    path = as_engine(model, read_manifest(tiny_engine), tmp_path / "e.onnx")
    with pytest.raises(InputError, match=told):
        plan_graph(path, keep_probability=False)


@pytest.mark.parametrize(("channels", "told"), [(3, "3 channels"), (0, "any number of channels")])
def test_an_engine_for_other_channels(tiny_engine: Path, tmp_path: Path, channels: int, told: str) -> None:
    model = onnx.load(tiny_engine)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = channels
    path = as_engine(model, read_manifest(tiny_engine), tmp_path / "e.onnx")
    with pytest.raises(InputError, match=told):
        plan_graph(path, keep_probability=False)


def test_what_is_no_engine(tiny_engine: Path, tmp_path: Path) -> None:
    fewer, more = onnx.load(tiny_engine), onnx.load(tiny_engine)
    del fewer.graph.output[-1]
    more.graph.input.add(name="more")
    for model, message in ((fewer, r"lacks the outputs \['probability'\]"), (more, "has other inputs than `tiles`")):
        with pytest.raises(InputError, match=message):
            plan_graph(as_engine(model, read_manifest(tiny_engine), tmp_path / "e.onnx"), keep_probability=False)
