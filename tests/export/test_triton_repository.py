"""The configuration for Triton against what ONNX Runtime and TensorRT themselves say of a real export."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import microseg
from microseg.core.errors import InputError
from microseg.core.schemas.bag import Fingerprint
from microseg.core.schemas.plan import SizeRange
from microseg.core.schemas.preparation import DomainEntry, Grid
from microseg.export.tensorrt.plan_graph import plan_graph
from microseg.export.triton_repository import triton_config, write_model
from microseg.runtime import read_manifest
from microseg.runtime.tensorrt.library import collecting_logger, load_library
from tests.chain import microseg as command
from tests.engines import threshold_manifest
from tests.plans import needs_rtx, plan_info, write_plan
from tests.runtime.triton.stub import Served, serving

TEMPLATES = Path(__file__).parents[2] / "deploy" / "triton"
TENSOR = re.compile(
    r'^(input|output) \[ \{ name: "(\w+)" data_type: TYPE_(\w+) dims: \[ ([-\d, ]+) \] \} \]$', re.MULTILINE
)


def tensors(text: str) -> dict[str, tuple[str, str, list[int]]]:
    """(input or output, type, dimensions with the batch) of every tensor of a configuration."""
    found = {name: (kind, dtype, dims) for kind, name, dtype, dims in TENSOR.findall(text)}
    return {name: (kind, dtype, [-1, *map(int, dims.split(","))]) for name, (kind, dtype, dims) in found.items()}


def number(text: str, key: str) -> int:
    found = re.search(rf"\b{key}: (?:\[ )?(\d+)", text)
    assert found is not None
    return int(found[1])


def test_onnx_runtime_says_the_same(exported: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    types = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32"}
    real = {
        node.name: (kind, types[node.type], [dim if isinstance(dim, int) else -1 for dim in node.shape])
        for kind, nodes in (("input", session.get_inputs()), ("output", session.get_outputs()))
        for node in nodes
    }
    text = triton_config(exported, read_manifest(exported), "bagged")
    assert tensors(text) == real
    assert 'name: "bagged"' in text and 'backend: "onnxruntime"' in text and number(text, "max_batch_size") == 8


@needs_rtx
@pytest.mark.parametrize("keep_probability", [False, True])
def test_tensorrt_says_the_same(exported: Path, keep_probability: bool) -> None:
    """The network as both flavours parse it."""
    library = load_library("tensorrt_rtx")
    logger = collecting_logger(library)
    builder = library.Builder(logger)
    network = builder.create_network(0)
    parser = library.OnnxParser(network, logger)
    assert parser.parse(plan_graph(exported, keep_probability))
    types = {library.DataType.UINT8: "UINT8", library.DataType.FLOAT: "FP32"}
    nodes: list[tuple[str, Any]] = [("input", network.get_input(0))]
    nodes += [("output", network.get_output(index)) for index in range(network.num_outputs)]
    real = {node.name: (kind, types[node.dtype], list(node.shape)) for kind, node in nodes}
    info = plan_info(b"", outputs=[node.name for kind, node in nodes if kind == "output"])
    text = triton_config(exported, read_manifest(exported).model_copy(update={"plan": info}), "bagged")
    assert tensors(text) == real
    assert 'backend: "tensorrt"' in text
    assert (number(text, "max_batch_size"), number(text, "preferred_batch_size")) == (info.batch.max, info.batch.opt)


def test_the_templates_are_what_is_written_for_five_folds_and_two_phases() -> None:
    manifest = threshold_manifest(5, ("ferrite", "bainite"), [DomainEntry(name="source")], Grid(), 32, 62, 100.0)
    manifest = manifest.model_copy(update={"fingerprints": [Fingerprint(fold=0, mean=[0.0] * 320, std=[1.0] * 320)]})
    plan = plan_info(b"", batch=SizeRange(min=1, opt=8, max=8))
    for name, update in (("bagged-onnx", {}), ("bagged-plan", {"plan": plan})):
        text = (TEMPLATES / name / "config.pbtxt").read_text(encoding="utf-8")
        assert text == triton_config(Path("bagged.onnx"), manifest.model_copy(update=update), name)


def test_a_repository_is_filled_once(exported: Path, tmp_path: Path) -> None:
    done = command("export", exported, "--triton", tmp_path, "--name", "steel")
    assert (done.status, done.out, done.err) == (0, f"{tmp_path / 'steel'}\n", "")
    found = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert found == ["steel/1/model.onnx", "steel/config.pbtxt"]
    assert (tmp_path / "steel/1/model.onnx").read_bytes() == exported.read_bytes()
    again = command("export", exported, "--triton", tmp_path, "--name", "steel")
    assert again.status == 2 and re.search(r"steel: exists\. Remedy: ", again.err)
    assert command("export", exported, "--triton", tmp_path).out == f"{tmp_path / 'microseg'}\n"


def test_options_of_an_export_are_refused_beside_triton(exported: Path, trained: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (
            (exported, "--triton", tmp_path, "--precision", "fp16", "--out", "a.onnx"),
            "--out, --precision: --triton takes",
        ),
        ((exported, "--name", "steel"), "--name steel: names a model of --triton"),
        ((trained, "--triton", tmp_path), "is a folder"),
        ((tmp_path / "no.onnx", "--triton", tmp_path), "no.onnx: does not exist"),
    ):
        outcome = command("export", *arguments)
        assert outcome.status == 2 and message in outcome.err, outcome
    assert not list(tmp_path.iterdir())


def test_a_copy_that_fails_leaves_no_model(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="is not a name for a model"):
        write_model(exported, tmp_path, 'a"b')

    def full(source: Path, target: Path) -> None:
        raise OSError(28, "No space left on device", str(source), None, str(target))

    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(OSError, match="No space left"):
        write_model(exported, tmp_path / "models", "a")
    assert not (tmp_path / "models" / "a").exists()


def test_what_triton_does_not_run(exported: Path, tiny_engine: Path, tmp_path: Path) -> None:
    rtx = write_plan(exported, tmp_path / "rtx.plan", flavour="tensorrt_rtx")
    with pytest.raises(InputError, match=r"rtx\.plan: is a plan of TensorRT for RTX.*--profile a100"):
        write_model(rtx, tmp_path / "models", "a")
    with pytest.raises(InputError, match=r"tiny\.onnx: its manifest does not state the length of its features"):
        write_model(tiny_engine, tmp_path / "models", "a")
    full = write_plan(exported, tmp_path / "full.plan")
    assert write_model(full, tmp_path / "models", "a") == tmp_path / "models" / "a"
    assert (tmp_path / "models/a/1/model.plan").read_bytes() == full.read_bytes()
    full.write_bytes(b"changed")
    with pytest.raises(InputError, match="damaged or changed"):
        write_model(full, tmp_path / "models", "b")
    assert not (tmp_path / "models/b").exists()


def test_a_served_model_measures_as_its_engine_does(exported: Path, unseen: Path, tmp_path: Path) -> None:
    served = Served(exported)
    served.take_repository(write_model(exported, tmp_path / "models", "steel"))
    image = sorted((unseen / "images").iterdir())[0]
    with serving(served) as url, microseg.connect(url) as far, microseg.load_engine(exported) as near:
        assert far.path == url and far.manifest == near.manifest
        there, here = far.predict(image), near.predict(image)
        assert np.array_equal(there.labels, here.labels) and np.array_equal(there.votes, here.votes)
        assert there.fractions == here.fractions
        assert microseg.evaluate_engine(far, unseen) == microseg.evaluate_engine(near, unseen)
