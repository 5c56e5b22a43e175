"""The library leaves the process as it was: when it is imported, while an engine is open and after it is closed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

# What a program that uses the library may rely on. Third-party libraries change some of it themselves when they are imported,
# so that they come first.
STATE = """
import importlib, locale, logging, os, pkgutil, random, signal, sys, threading, warnings
import cv2, numpy, PIL.Image, scipy.ndimage, scipy.special, scipy.stats
import tifffile, imagecodecs, pydantic, yaml, jinja2, typer, rich.console

# torch gives its own loggers new handlers when it first exports.
LOGGERS = ["microseg", "tifffile", "PIL", "matplotlib", "albumentations", "timm", "onnxruntime", "openvino"]

def state():
    loggers = {name: logging.getLogger(name) for name in LOGGERS}
    found = {
        "OpenCV's threads": cv2.getNumThreads(),
        "warning filters": warnings.filters[:],
        "warning display": warnings.showwarning,
        "signal handlers": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "root logger": (logging.root.level, logging.root.handlers[:]),
        "handlers": {name: logger.handlers[:] for name, logger in loggers.items()},
        "levels": {name: logging.getLogger(name).level for name in [*LOGGERS, "torch.onnx"]},
        "hooks": (sys.excepthook, sys.displayhook, threading.excepthook, sys.unraisablehook),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "module path": sys.path[:],
        "recursion": sys.getrecursionlimit(),
        "numpy's errors": numpy.geterr(),
        "numpy's printing": numpy.get_printoptions(),
        "numpy's random numbers": [part.tolist() if hasattr(part, "tolist") else part for part in numpy.random.get_state()],
        "random numbers": random.getstate(),
        "locale": locale.setlocale(locale.LC_ALL),
        "Pillow's limit": PIL.Image.MAX_IMAGE_PIXELS,
    }
    if "torch" in sys.modules:
        import torch
        found |= {
            "torch's threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
            "torch's types": torch.get_default_dtype(),
            "torch's gradients": torch.is_grad_enabled(),
            "torch's determinism": torch.are_deterministic_algorithms_enabled(),
            "cuDNN": (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic),
        }
    return found

def check(before, when):
    after = state()
    changed = {name: (value, after[name]) for name, value in before.items() if after[name] != value}
    assert not changed, f"{when}: {changed}"

def modules(*packages):
    for package in packages:
        path = importlib.import_module(package).__path__
        for module in pkgutil.walk_packages(path, package + "."):
            yield module.name

cv2.setNumThreads(3)
"""
IMPORTS = """
import torch, torchvision, segmentation_models_pytorch, timm, albumentations, safetensors.torch, matplotlib.pyplot
import onnx, onnxscript, onnxruntime, openvino, torch.distributed, torch.multiprocessing.spawn
torch.set_num_threads(3)
before = state()
import microseg
for name in modules("microseg"):
    if not name.endswith("__main__"):
        importlib.import_module(name)
        check(before, name)
"""
LIBRARIES = """
before = state()
import microseg.runtime, microseg.train.common.augmentation
from microseg.runtime.onnxruntime_library import onnxruntime_library
onnxruntime_library()
for name in ("ORT_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE"):
    assert name not in os.environ
"""
ENGINES = """
from pathlib import Path
import onnxruntime, openvino
before = state()
from microseg.runtime import open_engine
with open_engine(Path(sys.argv[1]), 2, runtime=sys.argv[2]) as engine:
    check(before, "open")
    engine.run(numpy.zeros((1, 1, 64, 64), numpy.uint8))
    check(before, "used")
check(before, "closed")
"""
TRAINING = """
from pathlib import Path
from tests.chain import train, tiny_recipe
from microseg.export.onnx_export import export_run
before = state()
place = Path(sys.argv[2])
train(Path(sys.argv[1]), place / "run", tiny_recipe(steps=1, folds=2))
check(before, "trained")
export_run(place / "run", place / "bagged.onnx")
check(before, "exported")
"""


def _run(code: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", STATE + code, *map(str, arguments)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr


def test_importing_training_and_exporting_change_nothing(source: Path, tmp_path: Path) -> None:
    _run(IMPORTS + TRAINING, source, tmp_path)


def test_variables_that_libraries_read_at_their_import_are_unset_again(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ORT_DISABLE_TELEMETRY", "NO_ALBUMENTATIONS_UPDATE"):
        monkeypatch.delenv(name, raising=False)
    _run(LIBRARIES)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_an_engine_changes_nothing(tiny_engine: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    _run(ENGINES, tiny_engine, runtime)
