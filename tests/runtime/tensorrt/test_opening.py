"""Plans that cannot run here: a message every time, and the interpreter lives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from microseg.core.errors import InputError, MissingExtraError
from microseg.core.schemas.plan import SizeRange, plan_manifest_path
from microseg.runtime import EngineFile, open_engine, read_manifest
from microseg.runtime.tensorrt import device
from microseg.runtime.tensorrt import opening as tensorrt_open
from microseg.runtime.tensorrt.device import GpuInfo
from tests.plans import needs_rtx, write_plan

A4000 = GpuInfo("NVIDIA RTX A4000", "8.6", "13.0")
A100 = GpuInfo("NVIDIA A100-SXM4-40GB", "8.0", "13.0")
T4 = GpuInfo("Tesla T4", "7.5", "13.0")

OPEN = """
import sys
from pathlib import Path
from microseg.core.errors import MicrosegError
from microseg.runtime import open_engine

for name in sys.argv[1:]:
    try:
        open_engine(Path(name))
    except MicrosegError as error:
        print(error)
assert not [name for name in sys.modules if name.startswith("tensorrt")]
print("alive")
"""


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets a test say which GPU is found, and which version of TensorRT."""

    def found(here: GpuInfo, version: str | None = None) -> None:
        monkeypatch.setattr(tensorrt_open, "require_gpu", lambda what, remedy, extra: here)
        if version is not None:
            monkeypatch.setattr(tensorrt_open, "load_library", lambda name: SimpleNamespace(__version__=version))

    return found


@needs_rtx
def test_without_a_gpu_the_interpreter_lives(tiny_engine: Path, tmp_path: Path) -> None:
    """With full TensorRT and the lean runtime any call without a driver would end it."""
    from microseg.runtime.tensorrt.device import find_gpu

    if find_gpu("tensorrt") is not None:
        pytest.skip("this machine has a GPU")
    plans = [
        write_plan(tiny_engine, tmp_path / "full.plan"),
        write_plan(tiny_engine, tmp_path / "lean.plan", version_compatible=True),
        write_plan(tiny_engine, tmp_path / "rtx.plan", flavour="tensorrt_rtx"),
    ]
    done = subprocess.run([sys.executable, "-c", OPEN, *map(str, plans)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *messages, last = done.stdout.splitlines()
    assert last == "alive" and len(messages) == len(plans)
    for path, message in zip(plans, messages, strict=True):
        assert message.startswith(f"{path}: a TensorRT plan needs an NVIDIA GPU and its driver, and none is found")
        assert "use the .onnx file that it was built from, which runs on the CPU" in message


def test_a_plan_without_its_manifest(tiny_engine: Path, tmp_path: Path) -> None:
    path = write_plan(tiny_engine, tmp_path / "a.plan")
    beside = plan_manifest_path(path)
    text = beside.read_text(encoding="utf-8")
    beside.unlink()
    with pytest.raises(InputError, match=r"a\.plan\.json: is missing.*microseg export ENGINE\.onnx --out .*a\.plan"):
        open_engine(path)
    for damaged, message in (
        (text[:-9].encode(), "its manifest is damaged"),
        (b"\xff\xfe", "is damaged"),
        (read_manifest(tiny_engine).model_dump_json().encode(), "that of another kind of engine"),
        (text.replace('"labels"', "7").encode(), r"its manifest is damaged \(plan\.outputs"),
    ):
        beside.write_bytes(damaged)
        with pytest.raises(InputError, match=message):
            read_manifest(path)


def test_a_plan_of_another_manifest(tiny_engine: Path, tmp_path: Path) -> None:
    path = write_plan(tiny_engine, tmp_path / "a.plan", b"the plan")
    assert EngineFile(path).require_intact().sha256 == EngineFile(path).sha256
    for content in (b"", b"the pla", b"another plan"):
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"is not the plan of the manifest beside it.*microseg export ENGINE\.onnx"
        ):
            open_engine(path)
        with pytest.raises(InputError, match="damaged or changed"):
            EngineFile(path).require_intact()


@pytest.mark.parametrize(
    ("changes", "here", "message"),
    [
        ({}, A100, r"was built on NVIDIA RTX A4000 of compute capability 8\.6.*this GPU is NVIDIA A100.* 8\.0"),
        ({}, GpuInfo("NVIDIA A10", "8.6", "13.0"), "hardware compatibility none"),
        ({"hardware_compatibility": "same_compute_capability"}, A100, "hardware compatibility same_compute_capability"),
        ({"hardware_compatibility": "ampere_plus"}, T4, "hardware compatibility ampere_plus"),
        (
            {"flavour": "tensorrt_rtx", "target_capabilities": ["8.6", "8.9"]},
            A100,
            r"was built for compute capability 8\.6, 8\.9, but this GPU is NVIDIA A100",
        ),
    ],
)
def test_a_plan_of_another_gpu(
    tiny_engine: Path, tmp_path: Path, gpu: Any, changes: dict[str, Any], here: GpuInfo, message: str
) -> None:
    path = write_plan(tiny_engine, tmp_path / "a.plan", **changes)
    gpu(here, "11.4.0.106")
    with pytest.raises(InputError, match=message + r".*microseg export ENGINE\.onnx --out NEW\.plan --profile l4"):
        open_engine(path)


@pytest.mark.parametrize(
    ("changes", "version", "fits"),
    [
        ({}, "11.4.0.106", True),
        ({}, "11.4.0.107", False),
        ({}, "10.13.3.9", False),
        ({"version_compatible": True}, "11.10.0.1", True),
        ({"version_compatible": True}, "11.3.0.99", False),
        ({"version_compatible": True}, "12.0.0.1", False),
    ],
)
def test_a_plan_of_another_version(
    tiny_engine: Path, tmp_path: Path, gpu: Any, changes: dict[str, Any], version: str, fits: bool
) -> None:
    path = write_plan(tiny_engine, tmp_path / "a.plan", **changes)
    gpu(A4000, version)
    if fits:
        # On from here TensorRT itself would answer; this one has nothing but a version.
        with pytest.raises(AttributeError, match="ILogger"):
            open_engine(path)
    else:
        with pytest.raises(
            InputError, match=rf"was built by TensorRT 11\.4\.0\.106, this is {version}\. Remedy: build"
        ):
            open_engine(path)


class Tensors:
    """The tensors of the engine that `plan_info` describes, by TensorRT's names; some changed."""

    class DataType:
        UINT8, FLOAT = "uint8", "float"

    def __init__(self, **changes: tuple[str, tuple[int, ...]] | None) -> None:
        tensors = {
            "tiles": ("uint8", (-1, 1, -1, -1)),
            "labels": ("uint8", (-1, -1, -1)),
            "votes": ("uint8", (-1, 2, -1, -1)),
            "features": ("float", (-1, 2, 1)),
        }
        self.tensors = {name: value for name, value in (tensors | changes).items() if value is not None}
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_dtype(self, name: str) -> str:
        return self.tensors[name][0]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name][1]

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        return [(1, 1, 16, 16), (2, 1, 32, 32), (2, 1, 64, 64)]


@pytest.mark.parametrize(
    ("engine", "changes", "wrong"),
    [
        (Tensors(), {}, None),
        (Tensors(votes=("uint8", (-1, 3, -1, -1))), {}, "votes"),
        (Tensors(labels=("int32", (-1, -1, -1))), {}, "labels"),
        (Tensors(tiles=("uint8", (-1, 3, -1, -1))), {}, "tiles"),
        (Tensors(probability=("float", (-1, 2, -1, -1))), {}, "probability"),
        (Tensors(features=None), {}, "features"),
        (Tensors(), {"outputs": ["labels", "votes", "features", "probability"]}, "probability"),
        (Tensors(), {"tile_px": SizeRange(min=16, opt=32, max=48)}, "sizes of tiles and batches"),
        (Tensors(), {"batch": SizeRange(min=1, opt=1, max=2)}, "sizes of tiles and batches"),
    ],
)
def test_a_manifest_that_is_not_the_engines(
    tiny_engine: Path, tmp_path: Path, engine: Tensors, changes: dict[str, Any], wrong: str | None
) -> None:
    """Buffers are as large as the manifest says: with one fold too few there, the card would write beyond them."""
    path = write_plan(tiny_engine, tmp_path / "a.plan", **changes)
    manifest = read_manifest(path)
    if wrong is None:
        tensorrt_open._require_tensors(path, manifest, Tensors, engine)
        return
    with pytest.raises(
        InputError, match=rf"is not what the manifest beside it describes \({wrong}\), which was changed"
    ):
        tensorrt_open._require_tensors(path, manifest, Tensors, engine)


@pytest.mark.parametrize("fails", ["cudaSetDevice", "cudaFree", "cudaGetDeviceProperties"])
def test_a_gpu_that_refuses(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """One that another process has alone is listed all the same; TensorRT must not get to see it."""

    class Refusing:
        cudaError_t = SimpleNamespace(cudaSuccess=0)

        def __getattr__(self, name: str) -> Any:
            values = {
                "cudaGetDeviceCount": (0, 1),
                "cudaDriverGetVersion": (0, 13000),
                "cudaGetDeviceProperties": (0, SimpleNamespace(name=b"NVIDIA RTX A4000", major=8, minor=6)),
                "cudaGetErrorString": (0, b"exclusive-process device"),
            }
            return lambda *arguments: (46, None) if name == fails else values.get(name, (0,))

    monkeypatch.setattr(device, "cuda_runtime", lambda extra: Refusing())
    path = write_plan(tiny_engine, tmp_path / "a.plan")
    with pytest.raises(
        InputError, match=r"a\.plan: a TensorRT plan needs the NVIDIA GPU.*exclusive-process.*\.onnx file"
    ):
        open_engine(path)


@needs_rtx
def test_a_damaged_header_is_seen_before_anything_is_loaded(tiny_engine: Path, tmp_path: Path, gpu: Any) -> None:
    path = write_plan(tiny_engine, tmp_path / "a.plan", b"x" * 1000, flavour="tensorrt_rtx")
    gpu(A4000)
    with pytest.raises(InputError, match=r"TensorRT for RTX cannot run it: its header is damaged\. Remedy: build"):
        open_engine(path)


@pytest.mark.parametrize(
    ("changes", "library", "extra"),
    [
        ({}, "tensorrt", "tensorrt"),
        ({"flavour": "tensorrt_rtx"}, "tensorrt_rtx", "tensorrt-rtx"),
        ({"version_compatible": True}, "tensorrt_lean", "tensorrt-lean"),
    ],
)
def test_a_runtime_that_is_not_installed(
    tiny_engine: Path,
    tmp_path: Path,
    gpu: Any,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    library: str,
    extra: str,
) -> None:
    path = write_plan(tiny_engine, tmp_path / "a.plan", **changes)
    gpu(A4000)
    for name in (library, f"{library}_bindings"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"TensorRT.*not installed. Remedy: pip install 'microseg\[{extra}\]'"):
        open_engine(path)


def test_without_the_cuda_bindings(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    path = write_plan(tiny_engine, tmp_path / "a.plan")
    with pytest.raises(MissingExtraError, match=r"Looking for an NVIDIA GPU.*'microseg\[tensorrt\]'"):
        open_engine(path)
