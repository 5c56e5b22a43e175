"""Other weights in a plan that is built. Only its card can do it, so TensorRT's part is played here."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from microseg.core.errors import GateError, InputError
from microseg.core.schemas.keys import REFERENCE_KEY
from microseg.core.schemas.manifest import Manifest
from microseg.export.tensorrt import refit as plan_refit
from microseg.export.tensorrt.plan_graph import graph_sha256, plan_graph
from microseg.export.tensorrt.refit import refit_plan
from microseg.export.torch_graph.bag import build_onnx
from microseg.models.unet import UNet
from microseg.runtime import EngineFile, read_manifest
from microseg.runtime.engine_metadata import append_metadata
from microseg.runtime.tensorrt import opening as tensorrt_open
from microseg.runtime.tensorrt.library import load_library
from tests.chain import ENCODER, NETWORK, microseg
from tests.engines import rewrite_manifest, write_threshold_engine
from tests.host_cuda import HostContext, HostCuda, host_reference, open_on_host
from tests.plans import Silent, needs_rtx, write_plan

THRESHOLDS = ((0.4,), (0.45,))


def engine(path: Path, thresholds: Any = THRESHOLDS, **options: Any) -> Path:
    """An engine with a reference tile as the rehearsal labels it."""
    write_threshold_engine(path, thresholds, **options)
    append_metadata(path, REFERENCE_KEY, host_reference(read_manifest(path)).model_dump_json())
    return path


def graph_of(path: Path) -> bytes:
    return plan_graph(path, keep_probability=False)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A refittable plan."""
    source = engine(tmp_path / "old.onnx", ((0.3,), (0.5,)))
    return write_plan(
        source, tmp_path / "old.plan", refittable=True, verified=True, graph_sha256=graph_sha256(graph_of(source))
    )


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """The same network with other weights."""
    return engine(tmp_path / "new.onnx")


class Refit:
    """TensorRT's part: what it was given, and what it answers."""

    def __init__(self) -> None:
        self.given: bytes | None = None
        self.parsed = self.done = True
        self.missing: list[str] = []
        self.flags: list[str] = []

    def load(self, path: Path, manifest: Manifest) -> tensorrt_open.LoadedPlan:
        def refit_from_bytes(graph: bytes) -> bool:
            self.given = graph
            return self.parsed

        error = SimpleNamespace(
            node_operator=lambda: "Conv", node_name=lambda: "stem", desc=lambda: "count of weights differs"
        )
        library = SimpleNamespace(
            SerializationFlag=SimpleNamespace(INCLUDE_REFIT="refit"),
            Refitter=lambda engine, logger: SimpleNamespace(
                get_missing_weights=lambda: self.missing, refit_cuda_engine=lambda: self.done
            ),
            OnnxParserRefitter=lambda refitter, logger: SimpleNamespace(
                refit_from_bytes=refit_from_bytes, num_errors=1, get_error=lambda index: error
            ),
        )
        engine = SimpleNamespace(
            create_serialization_config=lambda: SimpleNamespace(set_flag=self.flags.append),
            serialize_with_config=lambda config: b"refitted plan",
        )
        logger = SimpleNamespace(last=lambda: "out of memory")
        gpu = SimpleNamespace(name="a card")
        return tensorrt_open.LoadedPlan("tensorrt", library, logger, None, engine, gpu)  # type: ignore[arg-type]


@pytest.fixture
def refit(monkeypatch: pytest.MonkeyPatch) -> Refit:
    found = Refit()
    monkeypatch.setattr(plan_refit, "load_plan", found.load)
    monkeypatch.setattr(tensorrt_open, "open_plan", lambda path, manifest, config: open_on_host(path, HostCuda()))
    return found


def test_the_plan_gets_the_weights_and_the_manifest_of_the_new_engine(
    new: Path, old: Path, tmp_path: Path, refit: Refit
) -> None:
    out = tmp_path / "new.plan"
    manifest = refit_plan(new, out, old, Silent())
    assert out.read_bytes() == b"refitted plan" and refit.given == graph_of(new) and refit.flags == ["refit"]
    before, after = read_manifest(old).plan, manifest.plan
    assert before is not None and after is not None
    assert read_manifest(out) == manifest and EngineFile(out).is_network_intact and EngineFile(out).is_manifest_intact
    assert manifest.model_sha256 == read_manifest(new).model_sha256
    assert after.onnx_sha256 != before.onnx_sha256 and after.plan_sha256 != before.plan_sha256
    changed = {"onnx_sha256", "plan_sha256", "verified", "comparison"}
    assert after.model_dump(exclude=changed) == before.model_dump(exclude=changed)
    # Verified anew, by its own comparison.
    assert after.verified and after.comparison is not None and after.comparison.provider == "rehearsal"


def test_a_refitted_plan_goes_through_the_gate(
    new: Path, old: Path, tmp_path: Path, refit: Refit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the card's plan kept an old scale."""
    compute = HostContext._compute

    def otherwise(self: HostContext, addresses: dict[str, int], shape: tuple[int, ...]) -> None:
        compute(self, addresses, shape)
        labels = self._at(addresses["labels"], (shape[0], *shape[2:]), np.uint8)
        labels[...] = 1 - labels

    monkeypatch.setattr(HostContext, "_compute", otherwise)
    with pytest.raises(GateError, match=r"new\.plan: the plan, run by .*, does not agree with .*new\.onnx"):
        refit_plan(new, tmp_path / "new.plan", old, Silent())
    assert not (tmp_path / "new.plan").exists()


def test_verification_is_reset_where_the_new_plan_cannot_be_compared(
    new: Path, old: Path, tmp_path: Path, refit: Refit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: Path, manifest: object, config: object) -> None:
        raise InputError("the card is busy")

    monkeypatch.setattr(tensorrt_open, "open_plan", refusing)
    plan = refit_plan(new, tmp_path / "new.plan", old, Silent()).plan
    assert plan is not None and (plan.verified, plan.comparison) == (False, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"parsed": False},
            r"TensorRT cannot put its weights into .*Conv stem: count of weights differs\. Remedy: leave",
        ),
        ({"missing": ["stem.weight", "b"]}, r"no weights for stem\.weight, b\)"),
        ({"done": False}, r"\(out of memory\)"),
    ],
)
def test_what_tensorrt_refuses_is_told(
    new: Path, old: Path, tmp_path: Path, refit: Refit, changes: dict[str, Any], message: str
) -> None:
    vars(refit).update(changes)
    with pytest.raises(InputError, match=message):
        refit_plan(new, tmp_path / "new.plan", old, Silent())
    assert not (tmp_path / "new.plan").exists()


def test_what_is_more_than_other_weights_is_refused(new: Path, old: Path, tmp_path: Path, refit: Refit) -> None:
    def plan(name: str, **changes: Any) -> Path:
        return write_plan(new, tmp_path / f"{name}.plan", **changes)

    cases = (
        (
            engine(tmp_path / "a.onnx", names=("ferrite", "pearlite")),
            old,
            "phases ferrite, pearlite, but ferrite, bainite in",
        ),
        (engine(tmp_path / "b.onnx", ((0.4,),)), old, r"folds 1, but 2 in "),
        (engine(tmp_path / "c.onnx", stride=16), old, "stride 16, but 8 in "),
        (rewrite_manifest(new, tmp_path / "d.onnx", precision="fp16"), old, r"precision fp16, but fp32 in "),
        (
            new,
            plan("fixed"),
            r"fixed\.plan: was not built with refittable: true\. Remedy: build it once.*refittable: true",
        ),
        (new, plan("lean", refittable=True, version_compatible=True), "is for the lean runtime"),
        (new, plan("other", refittable=True, graph_sha256="0" * 64), "is another network than that of"),
        (new, new, "is not a plan"),
        (old, old, "is already a plan"),
    )
    for source, of, message in cases:
        with pytest.raises(InputError, match=message):
            refit_plan(source, tmp_path / "new.plan", of, Silent())
    old.write_bytes(b"another")
    with pytest.raises(InputError, match="damaged or changed"):
        refit_plan(new, tmp_path / "new.plan", old, Silent())
    assert refit.given is None and not (tmp_path / "new.plan").exists()


def test_the_graph_is_what_weights_are_not(new: Path, old: Path, tmp_path: Path) -> None:
    plan, known = read_manifest(old).plan, graph_of(new)
    assert plan is not None and graph_sha256(known) == plan.graph_sha256

    def changed(tensor: str | None = None, **attribute: int) -> str:
        model = onnx.load_model_from_string(known)
        for initializer in model.graph.initializer:
            if initializer.name == tensor:
                values = numpy_helper.to_array(initializer)
                initializer.CopyFrom(numpy_helper.from_array(values + values.dtype.type(1), tensor))
        for node in model.graph.node:
            node.doc_string = "made on another day"
            if node.op_type == "Conv":
                node.attribute.extend(onnx.helper.make_attribute(name, value) for name, value in attribute.items())
        return graph_sha256(model.SerializeToString())

    assert changed() == changed("mean_kernel") == changed("bias1") == plan.graph_sha256
    # No weights: how far is padded, along which axes is pooled, how the network is wired.
    assert len({changed(), changed("pads"), changed("space"), changed("full_scale"), changed(group=1)}) == 5


def test_real_networks_differ_in_nothing_but_their_weights(tmp_path: Path) -> None:
    hashes = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        network = UNet(ENCODER["name"], 2, "none", tuple(NETWORK["decoder_channels"]))
        for module in network.modules():
            # As trained: normalisation is folded into the convolutions, or its figures would be part of the graph.
            if isinstance(module, torch.nn.BatchNorm2d) and module.running_mean is not None:
                module.running_mean.normal_()
        build_onnx([network], tmp_path / f"{seed}.onnx")
        hashes.append(graph_sha256(graph_of(tmp_path / f"{seed}.onnx")))
    assert hashes[0] == hashes[1]


@needs_rtx
def test_the_installed_tensorrt_has_these_calls() -> None:
    rtx = load_library("tensorrt_rtx")
    for name, calls in (
        ("Refitter", ("get_missing_weights", "refit_cuda_engine")),
        ("OnnxParserRefitter", ("refit_from_bytes", "num_errors", "get_error")),
        ("ICudaEngine", ("create_serialization_config", "serialize_with_config")),
        ("SerializationFlag", ("INCLUDE_REFIT",)),
    ):
        assert not set(calls) - set(dir(getattr(rtx, name)))


@needs_rtx
def test_without_a_card_one_message(new: Path, old: Path, tmp_path: Path) -> None:
    from microseg.runtime.tensorrt.device import find_gpu

    if find_gpu("tensorrt") is not None:
        pytest.skip("this machine has a card")
    outcome = microseg("export", new, "--out", tmp_path / "new.plan", "--refit", old)
    assert outcome.status == 2 and "old.plan: a TensorRT plan needs an NVIDIA GPU" in outcome.err
    assert not (tmp_path / "new.plan").exists()


def test_what_refit_does_not_go_with(new: Path, old: Path, tmp_path: Path) -> None:
    for arguments in (
        (new, "--out", tmp_path / "b.onnx"),
        (tmp_path, "--out", tmp_path / "b.plan"),
        (new, "--out", tmp_path / "b.plan", "--profile", "a100"),
    ):
        outcome = microseg("export", *arguments, "--refit", old)
        assert outcome.status == 2 and "takes ENGINE.onnx and --out NEW.plan, without --profile" in outcome.err
