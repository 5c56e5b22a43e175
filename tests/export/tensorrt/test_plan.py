"""Real plans of TensorRT for RTX, which builds without a card; nothing here runs one."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from microseg.core.errors import GateError, InputError, MissingExtraError
from microseg.core.schemas.fidelity import Quantisation
from microseg.core.schemas.keys import REFERENCE_KEY
from microseg.core.schemas.plan import SizeRange, plan_manifest_path
from microseg.export.graph_rewrites import interleaved_by_copies, small_upsampling
from microseg.export.onnx_graph import last_convolutions, outside_convolutions, simplified
from microseg.export.precision import int8
from microseg.export.precision.fp16 import kept_in_float32, to_half
from microseg.export.tensorrt import build as tensorrt_build
from microseg.export.tensorrt import plan as module
from microseg.export.tensorrt.layer_precisions import Precisions
from microseg.export.tensorrt.plan import plan_of_engine, plan_of_run
from microseg.export.tensorrt.plan_graph import plan_graph
from microseg.export.tensorrt.plan_profile import RtxProfile, load_profile, profile_names
from microseg.export.torch_graph.bag import build_onnx
from microseg.models.deeplab import DeepLabV2
from microseg.models.network import Network
from microseg.models.unet import UNet
from microseg.runtime import EngineFile, read_manifest
from microseg.runtime.engine_metadata import append_metadata
from microseg.runtime.tensorrt import opening as tensorrt_open
from microseg.runtime.tensorrt.device import CudaError, GpuInfo
from tests.chain import ENCODER, NETWORK
from tests.engines import rewrite_manifest, with_reference, write_threshold_engine
from tests.host_cuda import HostContext, HostCuda, host_reference, open_on_host
from tests.plans import Silent, as_engine, half, needs_rtx, quantised

A4000 = GpuInfo("NVIDIA RTX A4000", "8.6", "13.0")
SMALL = "flavour: tensorrt_rtx\ntile_px: {min: 64, opt: 128, max: 192}\nbatch: {min: 1, opt: 2, max: 2}\n"


# TensorRT for RTX stands in for full TensorRT here and warns that it keeps no timing cache.
NO_TIMING_CACHE = pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")


@pytest.fixture(scope="module")
def single(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A U-Net of one fold, untrained."""
    torch.manual_seed(0)
    network = UNet(ENCODER["name"], 2, "none", tuple(NETWORK["decoder_channels"]))
    return _engine([network], exported, tmp_path_factory.mktemp("single") / "unet.onnx")


def _engine(networks: list[Network], like: Path, path: Path) -> Path:
    build_onnx(networks, path)
    manifest = read_manifest(like)
    return as_engine(onnx.load(path), manifest, path, folds=manifest.folds[: len(networks)], stride=networks[0].stride)


def _profile(folder: Path, text: str = SMALL) -> str:
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


@needs_rtx
def test_a_plan_and_its_manifest(exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "bagged.plan"
    progress = Silent()
    written = plan_of_engine(exported, out, _profile(tmp_path), progress)
    assert sorted(path.name for path in out.parent.iterdir()) == ["bagged.plan", "bagged.plan.json"]
    manifest = read_manifest(out)
    assert manifest == written
    assert manifest.model_copy(update={"plan": None}) == read_manifest(exported)
    info = manifest.plan
    assert info is not None
    assert (info.flavour, info.profile, info.verified) == ("tensorrt_rtx", "small.yaml", False)
    assert (info.tile_px, info.batch) == (SizeRange(min=64, opt=128, max=192), SizeRange(min=1, opt=2, max=2))
    assert info.onnx_sha256 == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert info.plan_sha256 == hashlib.sha256(out.read_bytes()).hexdigest() == EngineFile(out).require_intact().sha256
    assert info.outputs == ["labels", "votes", "features"]
    assert set(info.layer_precisions) == set(info.matrix_precisions) == {"fp32"}
    convolutions = sum(node.op_type == "Conv" for node in onnx.load(exported).graph.node)
    assert info.matrix_precisions["fp32"] == convolutions
    assert len(progress.phases) > 5 and not progress.open
    # A tile of 256 px is none that this plan runs.
    assert EngineFile(exported).reference is not None and EngineFile(out).reference is None
    out.write_bytes(out.read_bytes()[:-1])
    assert not EngineFile(out).is_network_intact


@pytest.fixture(scope="module", params=["deeplab", "student"])
def other(request: pytest.FixtureRequest, exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a bag of two U-Nets, which test_reduced_export.py builds in every precision, is not. Untrained."""
    torch.manual_seed(0)
    network: Network = DeepLabV2(ENCODER["name"], 2, "none", auxiliary=True)
    if request.param == "student":
        network = UNet(ENCODER["name"], 2, "none", tuple(NETWORK["decoder_channels"]), heads=2)
    path = tmp_path_factory.mktemp("other") / f"{request.param}.onnx"
    build_onnx([network], path)
    manifest = read_manifest(exported)
    return as_engine(onnx.load(path), manifest, path, folds=manifest.folds[: network.heads], stride=network.stride)


@needs_rtx
@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_network_builds_in_every_precision(other: Path, tmp_path: Path, precision: str) -> None:
    """As `export` reduces it, less the gate, which an untrained network does not pass."""
    manifest, model = read_manifest(other), onnx.load(other)
    noise = np.random.default_rng(0).integers(0, 256, (2, 1, 1, 64, 64), np.uint8)
    model = interleaved_by_copies(small_upsampling(model, 8)) if precision == "fp32" else simplified(model)
    if precision == "fp16":
        model = to_half(model, kept_in_float32(model, list(noise)))
    if precision == "int8":
        kept = {*outside_convolutions(model), *last_convolutions(model)}
        model = int8.quantised(model, int8.activation_ranges(model, list(noise)), kept, symmetric=True)
    engine = as_engine(model, manifest, tmp_path / "engine.onnx", precision=precision)
    built = plan_of_engine(engine, tmp_path / "engine.plan", _profile(tmp_path), Silent()).plan
    assert built is not None
    found, total = built.matrix_precisions, sum(built.matrix_precisions.values())
    assert total > 20 and found[precision] >= (total if precision != "int8" else 0.9 * total)


@needs_rtx
@pytest.mark.parametrize("name", sorted(profile_names()))
def test_every_profiles_shapes_build(single: Path, tmp_path: Path, name: str) -> None:
    """Full TensorRT builds on its card alone, so its profiles' shapes are built in the other flavour here."""
    profile = load_profile(name)[1]
    if not isinstance(profile, RtxProfile):
        profile = RtxProfile(tile_px=profile.tile_px, batch=profile.batch)
    graph = plan_graph(single, keep_probability=False)
    built = tensorrt_build.build(graph, single, name, profile, tmp_path / "cache", Silent())
    assert len(built.plan) > 100_000
    assert built.gpu is None or built.engine_precisions
    assert not list(tmp_path.iterdir())


@needs_rtx
def test_precision_is_that_of_the_graph(exported: Path, tmp_path: Path) -> None:
    engine = half(exported, tmp_path / "half.onnx")
    manifest = plan_of_engine(engine, tmp_path / "half.plan", _profile(tmp_path), Silent())
    info = manifest.plan
    assert manifest.precision == "fp16" and info is not None
    assert set(info.matrix_precisions) == set(info.layer_precisions) == {"fp16"}


@needs_rtx
def test_layers_left_in_float32_are_counted(single: Path, tmp_path: Path) -> None:
    engine = half(single, tmp_path / "mixed.onnx", blocked=["Conv"])
    manifest = plan_of_engine(engine, tmp_path / "mixed.plan", _profile(tmp_path), Silent())
    info = manifest.plan
    assert info is not None
    assert set(info.matrix_precisions) == {"fp32"} and set(info.layer_precisions) == {"fp32", "fp16"}


@needs_rtx
def test_int8_with_zero_points_of_zero_builds_and_no_other(single: Path, tmp_path: Path) -> None:
    engine = quantised(single, tmp_path / "int8.onnx")
    profile = _profile(tmp_path, SMALL + "keep_probability: true\n")
    manifest = plan_of_engine(engine, tmp_path / "int8.plan", profile, Silent())
    info = manifest.plan
    assert info is not None
    assert set(info.matrix_precisions) == {"int8"} and "fp32" in info.layer_precisions
    assert info.outputs == ["labels", "votes", "features", "probability"]
    shifted = quantised(single, tmp_path / "shifted.onnx", symmetric=False)
    with pytest.raises(InputError, match=r"shifted.onnx: TensorRT for RTX cannot parse its graph.*[Zz]ero point"):
        plan_of_engine(shifted, tmp_path / "shifted.plan", profile, Silent())
    assert not (tmp_path / "shifted.plan").exists()


def test_a_card_that_fails_is_no_hindrance_where_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(extra: str) -> None:
        raise CudaError("uncorrectable ECC error")

    monkeypatch.setattr(tensorrt_build, "find_gpu", failing)
    assert tensorrt_build._gpu_for("rtx-station", load_profile("rtx-station")[1]) is None


@needs_rtx
def test_too_little_workspace_is_told(single: Path, tmp_path: Path) -> None:
    profile = _profile(tmp_path, SMALL.replace("max: 192", "max: 1536") + "workspace_mb: 1\n")
    with pytest.raises(
        InputError, match=r"cannot build it for profile small\.yaml: .*workspace limit.*another workspace_mb"
    ):
        plan_of_engine(single, tmp_path / "a.plan", profile, Silent())
    assert not (tmp_path / "a.plan").exists()


@needs_rtx
def test_ctrl_c_stops_the_build(single: Path, tmp_path: Path) -> None:
    class Impatient(Silent):
        def step(self, phase: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_of_engine(single, tmp_path / "a.plan", _profile(tmp_path), Impatient())
    assert not (tmp_path / "a.plan").exists()


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spares the builder's seconds."""

    def instead(*arguments: object) -> tensorrt_build.Built:
        return tensorrt_build.Built(b"plan", "1.7", None, ["labels"], Precisions({}, {}), None)

    monkeypatch.setattr(module, "build", instead)


@pytest.mark.usefixtures("built")
def test_a_full_disk_leaves_nothing(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out" / "bagged.plan"
    write_bytes, write_text = Path.write_bytes, Path.write_text
    for fails in (".plan", ".json"):

        def full(self: Path, content: object, *, fails: str = fails, **options: object) -> int:
            if (".json" in self.name) == (fails == ".json"):
                self.touch()
                raise OSError(28, "No space left on device")
            return write_bytes(self, content) if isinstance(content, bytes) else write_text(self, str(content))

        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", full)
            patch.setattr(Path, "write_text", full)
            with pytest.raises(InputError, match=r"bagged.plan: cannot be written \(No space left on device\)"):
                plan_of_engine(tiny_engine, out, "rtx-station", Silent())
        assert not list(out.parent.iterdir())
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        plan_of_engine(tiny_engine, tmp_path / "file" / "a.plan", "rtx-station", Silent())


@pytest.mark.usefixtures("built")
def test_source_and_out_are_checked_first(tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"bagged.engine: a TensorRT plan is a .plan file. Remedy: --out .*bagged.plan"
    ):
        plan_of_engine(tiny_engine, tmp_path / "bagged.engine", None, Silent())
    out = tmp_path / "bagged.plan"
    plan_of_engine(tiny_engine, out, "rtx-station", Silent())
    with pytest.raises(InputError, match=r"bagged.plan: exists"):
        plan_of_engine(tiny_engine, out, None, Silent())
    with pytest.raises(InputError, match="is already a plan"):
        plan_of_engine(out, tmp_path / "b.plan", "rtx-station", Silent())
    out.unlink()
    with pytest.raises(InputError, match=r"bagged.plan.json: exists"):
        plan_of_engine(tiny_engine, out, None, Silent())
    with pytest.raises(InputError, match=r"no such profile\. Remedy: one of a100"):
        plan_of_engine(tiny_engine, tmp_path / "b.plan", "nothing", Silent())
    changed = tmp_path / "changed.onnx"
    content = bytearray(tiny_engine.read_bytes())
    content[content.index(b"mean_kernel") + 40] ^= 1
    changed.write_bytes(content)
    with pytest.raises(InputError, match="damaged or changed"):
        plan_of_engine(changed, tmp_path / "b.plan", "rtx-station", Silent())


@pytest.mark.usefixtures("built")
def test_no_plan_of_an_engine_that_is_replaced_once_it_is_hashed(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replaced(path: Path, keep_probability: bool) -> bytes:
        write_threshold_engine(path, thresholds=((0.1,), (0.1,)))
        return plan_graph(path, keep_probability)

    monkeypatch.setattr(module, "plan_graph", replaced)
    with pytest.raises(InputError, match=r"engine\.onnx: changed while it was read. Remedy: repeat the command"):
        plan_of_engine(here, tmp_path / "new" / "bagged.plan", "rtx-station", Silent())
    assert not (tmp_path / "new").exists()


def test_a_run_goes_through_its_onnx_engine(
    trained: Path, exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, asked = [], []

    def export_run(run: Path, out: Path, *, progress: object, reference: object, **options: object) -> None:
        assert run == trained
        steps.append(out)
        asked.append(options)
        out.write_bytes(exported.read_bytes())

    monkeypatch.setattr("microseg.export.onnx_export.export_run", export_run)
    manifest = plan_of_run(
        trained,
        tmp_path / "bagged.plan",
        "rtx-station",
        precision="int8",
        calibrate=trained,
        progress=Silent(),
    )
    assert manifest.plan is not None
    assert manifest.plan.onnx_sha256 == hashlib.sha256(exported.read_bytes()).hexdigest()
    assert not steps[0].exists()
    # TensorRT takes no zero points.
    assert asked == [{"precision": "int8", "calibrate": trained, "symmetric": True, "validate": None}]


@pytest.mark.usefixtures("built")
def test_reference_tiles_come_along(tiny_engine: Path, tmp_path: Path) -> None:
    engine = with_reference(tiny_engine, tmp_path / "engine.onnx")
    out = tmp_path / "bagged.plan"
    manifest = plan_of_engine(engine, out, "rtx-station", Silent())
    assert read_manifest(out) == manifest
    theirs, ours = EngineFile(engine).reference, EngineFile(out).reference
    assert theirs is not None and ours is not None
    assert (ours.tiles, ours.origin, ours.model_sha256) == (theirs.tiles, theirs.origin, theirs.model_sha256)
    assert EngineFile(out).is_manifest_intact


@pytest.fixture
def here(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An engine with a reference tile as the rehearsal labels it, and a card here that runs its plan."""
    made = tensorrt_build.Built(
        b"plan", "1.7", A4000, ["labels", "votes", "features"], Precisions({"fp32": 5}, {"fp32": 2}), None
    )
    monkeypatch.setattr(module, "build", lambda *arguments: made)
    monkeypatch.setattr(tensorrt_open, "open_plan", lambda path, manifest, config: open_on_host(path, HostCuda()))
    engine = tmp_path / "engine.onnx"
    engine.write_bytes(tiny_engine.read_bytes())
    append_metadata(engine, REFERENCE_KEY, host_reference(read_manifest(engine)).model_dump_json())
    return engine


def test_where_its_card_is_a_plan_is_compared_at_once(here: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "bagged.plan"
    info = plan_of_engine(here, out, "rtx-station", Silent()).plan
    assert info is not None and info.verified and info.comparison is not None
    assert info.comparison.provider == "rehearsal" and info.comparison.label_disagreement == 0
    assert info.comparison.fraction_difference_points == {"ferrite": 0, "bainite": 0}
    assert read_manifest(out).plan == info and EngineFile(out).is_manifest_intact
    # The kernels compiled for the comparison need not be compiled again.
    names = ["bagged.plan", "bagged.plan.json", "bagged.plan.kernels"]
    assert sorted(path.name for path in out.parent.iterdir()) == names


def test_a_plan_that_says_otherwise_does_not_appear(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def brighter(self: HostContext, addresses: dict[str, int], shape: tuple[int, ...]) -> None:
        count, _, height, width = shape
        compute(self, addresses, shape)
        self._at(addresses["labels"], (count, height, width), np.uint8)[:, :2] = 1

    compute = HostContext._compute
    monkeypatch.setattr(HostContext, "_compute", brighter)
    out = tmp_path / "new" / "bagged.plan"
    with pytest.raises(
        GateError,
        match=r"bagged\.plan: the plan, run by rehearsal, does not agree with .*engine\.onnx.* ferrite: \d.*Nothing was",
    ):
        plan_of_engine(here, out, "rtx-station", Silent())
    assert not list(out.parent.iterdir())


def test_a_plan_that_cannot_run_here_stays_unverified(
    here: Path, tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(path: Path, manifest: object, config: object) -> None:
        raise InputError(f"{path}: was built for another card")

    progress, out = Silent(), tmp_path / "a.plan"
    plan_of_engine(tiny_engine, tmp_path / "bare.plan", "rtx-station", progress)
    monkeypatch.setattr(tensorrt_open, "open_plan", refusing)
    info = plan_of_engine(here, out, "rtx-station", progress).plan
    assert out.is_file() and info is not None and (info.verified, info.comparison) == (False, None)
    assert "carries no reference tile of a size" in progress.notices[0]
    assert progress.notices[1] == f"not compared with {here} here: {out}: was built for another card"
    assert not progress.open


@pytest.mark.usefixtures("built")
def test_zero_points_are_told_before_the_build(tiny_engine: Path, tmp_path: Path) -> None:
    made = Quantisation(
        activations="asymmetric", weight_bits=8, instruction_sets=[], calibrated_on="t2", calibration_tiles=4
    )
    engine = rewrite_manifest(tiny_engine, tmp_path / "int8.onnx", precision="int8", quantisation=made)
    with pytest.raises(InputError, match=r"int8\.onnx: is quantised with zero points.*--symmetric"):
        plan_of_engine(engine, tmp_path / "a.plan", "rtx-station", Silent())
    assert not (tmp_path / "a.plan").exists()


def test_full_tensorrt_is_not_touched_without_a_card(tiny_engine: Path, tmp_path: Path) -> None:
    pytest.importorskip("cuda.bindings", reason="cuda-bindings is not installed")
    from microseg.runtime.tensorrt.device import find_gpu

    if find_gpu("tensorrt") is not None:
        pytest.skip("this machine has a card")
    with pytest.raises(InputError, match=r"profile a100: building with TensorRT needs an NVIDIA GPU.*rtx-station"):
        plan_of_engine(tiny_engine, tmp_path / "a.plan", "a100", Silent())
    profile = _profile(tmp_path, SMALL + "refittable: true\n")
    with pytest.raises(InputError, match="building a refittable plan needs an NVIDIA GPU"):
        plan_of_engine(tiny_engine, tmp_path / "a.plan", profile, Silent())


@NO_TIMING_CACHE
@needs_rtx
def test_full_tensorrts_settings_rehearsed(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own library builds on its card alone; the one for RTX has the same calls and takes them here."""
    from microseg.runtime.tensorrt.library import load_library

    rtx = load_library("tensorrt_rtx")
    a100 = GpuInfo("NVIDIA A100-SXM4-40GB", "8.0", "13.0")
    monkeypatch.setattr(tensorrt_build, "require_gpu", lambda what, remedy, extra: a100)
    monkeypatch.setattr(tensorrt_build, "load_library", lambda name: rtx)
    text = SMALL.replace("tensorrt_rtx", "tensorrt") + "hardware_compatibility: ampere_plus\nversion_compatible: true\n"
    for name in ("first", "second"):
        manifest = plan_of_engine(tiny_engine, tmp_path / f"{name}.plan", _profile(tmp_path, text), Silent())
        assert (tmp_path / f"{name}.timing").is_file()
        (tmp_path / f"{name}.timing").replace(tmp_path / "second.timing")
        info = manifest.plan
        assert info is not None and (info.flavour, info.gpu) == ("tensorrt", a100.name)
        assert (info.compute_capability, info.hardware_compatibility) == ("8.0", "ampere_plus")
        assert info.version_compatible and info.engine_precisions is None


@NO_TIMING_CACHE
@needs_rtx
def test_a_timing_cache_that_cannot_be_kept_costs_no_plan(
    tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from microseg.runtime.tensorrt.library import load_library

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    rtx = load_library("tensorrt_rtx")
    monkeypatch.setattr(tensorrt_build, "require_gpu", lambda what, remedy, extra: A4000)
    monkeypatch.setattr(tensorrt_build, "load_library", lambda name: rtx)
    monkeypatch.setattr(tensorrt_build, "write_bytes", full)
    profile = _profile(tmp_path, SMALL.replace("tensorrt_rtx", "tensorrt") + "version_compatible: true\n")
    progress = Silent()
    # Nor one that cannot be read.
    (tmp_path / "a.timing").mkdir()
    plan_of_engine(tiny_engine, tmp_path / "a.plan", profile, progress)
    assert (tmp_path / "a.plan").is_file()
    assert "a.timing: cannot be written (No space left on device). The plan is built; " in progress.notices[0]


def test_the_flavour_is_what_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from microseg.runtime.tensorrt import library as tensorrt_library

    def only(*names: str) -> None:
        def load(name: str) -> object:
            if name in names:
                return object()
            raise MissingExtraError(name, name)

        monkeypatch.setattr(tensorrt_library, "load_library", load)

    for installed, flavour in ((("tensorrt",), "tensorrt"), (("tensorrt_rtx", "tensorrt"), "tensorrt_rtx")):
        only(*installed)
        assert tensorrt_library.installed_flavour() == flavour
    only()
    with pytest.raises(MissingExtraError, match="tensorrt_rtx"):
        tensorrt_library.installed_flavour()
    assert set(module.DEFAULT_PROFILES.values()) <= set(profile_names())


STATION = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "onnxruntime", "onnxscript", "safetensors"}:
            raise ModuleNotFoundError(f"{name} is not on a station", name=name)

sys.meta_path.insert(0, Blocked())
from microseg.cli.main import main

sys.argv = ["microseg", "export", *sys.argv[1:]]
main()
"""


@needs_rtx
def test_a_station_builds_without_torch(tiny_engine: Path, tmp_path: Path) -> None:
    out = tmp_path / "bagged.plan"
    done = subprocess.run(
        [sys.executable, "-c", STATION, str(tiny_engine), "--out", str(out), "--profile", "rtx-small"],
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "TensorRT for RTX 1." in done.stdout and "profile rtx-small" in done.stdout
    assert out.is_file() and plan_manifest_path(out).is_file()
