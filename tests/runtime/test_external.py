"""Models that keep weights in other files are refused before a runtime sees them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from microseg.core.errors import InputError
from microseg.runtime import Runtime, open_engine, read_manifest
from microseg.runtime import external as external_data
from microseg.runtime.external import refuse_external_data
from microseg.runtime.protobuf import record


def external(tensor: TensorProto, location: str) -> None:
    """Say that the values are in `location`."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location


def evil_engine(engine: Path, path: Path, location: str) -> Path:
    model = onnx.load(engine)
    external(model.graph.initializer[2], location)
    # Not by onnx.save, which would look for the data itself.
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    "location", ["/etc/passwd", "../weights.bin", "a/../../b", r"C:\weights.bin", r"..\b", "//h/s"]
)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_paths_that_lead_outside(tiny_engine: Path, tmp_path: Path, location: str, runtime: Runtime) -> None:
    path = evil_engine(tiny_engine, tmp_path / "evil.onnx", location)
    with pytest.raises(InputError, match=r"outside its folder\. It was not loaded"):
        open_engine(path, 1, runtime=runtime)


def test_files_beside_it(tiny_engine: Path, tmp_path: Path) -> None:
    path = evil_engine(tiny_engine, tmp_path / "split.onnx", "weights.bin")
    with pytest.raises(InputError, match=r"'weights\.bin', which is missing"):
        refuse_external_data(path)
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    with pytest.raises(InputError, match=r"'weights\.bin', which no hash protects"):
        refuse_external_data(path)


def test_a_key_that_parsers_cut_to_32_bits(tmp_path: Path, tiny_engine: Path) -> None:
    """Field 13, `external_data`, to runtimes; another number to who reads the whole key."""
    beyond = 1 << 29  # of a number, whose key has three bits more
    told = record(1, b"location") + record(2, b"w.bin")
    tensor = TensorProto(name="w", dims=[4], data_type=1, data_location=TensorProto.EXTERNAL).SerializeToString()
    tensor += record(13 + beyond, told)
    path = tmp_path / "evil.onnx"
    path.write_bytes(tiny_engine.read_bytes() + record(7, record(5, tensor)))
    with pytest.raises(InputError, match="damaged"):
        refuse_external_data(path)
    hidden = tmp_path / "hidden.onnx"
    hidden.write_bytes(tiny_engine.read_bytes() + record(14 + beyond, b""))
    with pytest.raises(InputError, match="is no ONNX file"):
        read_manifest(hidden)
    long = tmp_path / "long.onnx"
    long.write_bytes(tiny_engine.read_bytes() + record(14, b"\x0a\xff\xff\xff\xff\xff\x0f"))
    with pytest.raises(InputError, match="is no ONNX file"):
        read_manifest(long)


def attribute(name: str) -> onnx.AttributeProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), "x")
    external(tensor, "/etc/passwd")
    return helper.make_attribute(name, tensor)


def test_tensors_of_nodes_subgraphs_functions_and_sparse_ones(tiny_engine: Path, tmp_path: Path) -> None:
    node = helper.make_node("Constant", [], ["hidden"])
    node.attribute.append(attribute("value"))
    inner = helper.make_graph([node], "inner", [], [])
    outer = helper.make_node("If", ["c"], ["out"], then_branch=inner)
    model = onnx.load(tiny_engine)
    sparse = model.__deepcopy__()
    sparse.graph.sparse_initializer.add().values.CopyFrom(attribute("value").t)
    function = model.__deepcopy__()
    function.functions.add().node.append(node)
    nested = model.__deepcopy__()
    nested.graph.node.append(outer)
    direct = model.__deepcopy__()
    direct.graph.node.append(node)
    for index, changed in enumerate((sparse, function, nested, direct)):
        path = tmp_path / f"{index}.onnx"
        path.write_bytes(changed.SerializeToString())
        with pytest.raises(InputError, match="outside its folder"):
            refuse_external_data(path)
    refuse_external_data(tiny_engine)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\x3a\xff\xff\xff\xff\x0f", b"\x3a\x02\x0a\x7f", b"\xff" * 40])
def test_damaged_files(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match="no ONNX file, or is damaged"):
        refuse_external_data(tmp_path / "a.onnx")


def test_a_truncated_engine(tiny_engine: Path, tmp_path: Path) -> None:
    data = tiny_engine.read_bytes()
    for share in (0.1, 0.5, 0.9):
        (tmp_path / "cut.onnx").write_bytes(data[: int(share * len(data))])
        with pytest.raises(InputError, match="cut off"):
            open_engine(tmp_path / "cut.onnx", 1)


def test_an_engine_that_is_cut_off_while_it_is_looked_through(
    tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were it mapped into memory, the interpreter would end here."""
    path = tmp_path / "a.onnx"
    weights = numpy_helper.from_array(np.zeros(100_000, np.float32), "w").SerializeToString()
    path.write_bytes(record(7, record(5, weights) * 3) + tiny_engine.read_bytes())

    class Cutting(dict[int, str]):
        def get(self, number: int, default: object = None) -> object:  # type: ignore[override]
            os.truncate(path, 100)
            return super().get(number, default)

    monkeypatch.setitem(external_data._CHILDREN, "graph", Cutting(external_data._CHILDREN["graph"]))
    with pytest.raises(InputError, match="cut off"):
        refuse_external_data(path)
