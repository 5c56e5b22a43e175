"""`import microseg`: what it names, what it loads, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import microseg
from tests.deploy.conftest import micrograph

HEAVY = (
    "numpy",
    "torch",
    "onnxruntime",
    "openvino",
    "cv2",
    "pandas",
    "pydantic",
    "scipy",
    "PIL",
    "tifffile",
    "rich",
    "typer",
)


def _run(code: str, *arguments: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_the_import_loads_nothing_and_is_quick() -> None:
    _run(
        f"""
import sys, time
begun = time.perf_counter()
import microseg
taken = time.perf_counter() - begun
loaded = [name for name in {HEAVY!r} if name in sys.modules]
assert not loaded, loaded
assert taken < 0.1 or any(_quick() for _ in range(3)), taken
""".replace(
            "_quick()",
            "__import__('subprocess').run([sys.executable, '-c', 'import time; t = time.perf_counter(); "
            "import microseg; raise SystemExit(time.perf_counter() - t >= 0.1)']).returncode == 0",
        )
    )


def test_every_name_is_there_and_none_hides_a_package() -> None:
    assert set(microseg.__all__) <= set(dir(microseg))
    packages = {path.parent.name for path in Path(microseg.__file__).parent.glob("*/__init__.py")}
    assert not packages & set(microseg.__all__)
    for name in ("load_engine", "segment_folder", "read_report", "evaluate_engine"):
        assert callable(getattr(microseg, name)), name
    with pytest.raises(AttributeError, match="has no attribute 'segmentation'"):
        _ = microseg.segmentation


def test_the_station_s_half_needs_no_torch(tiny_engine: Path, tmp_path: Path) -> None:
    Image.fromarray(micrograph(60, 70, 0)).save(tmp_path / "a.png")
    _run(
        """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "torchvision", "pandas", "onnx"):
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
import microseg
engine, image, out = sys.argv[1:]
with microseg.load_engine(engine) as opened:
    result = opened.predict(image)
    assert result.probability.shape == (2, 60, 70) and result.overlay().size
report = microseg.segment_folder(image, engine=engine, out=out)
assert report.summary.phases["bainite"].mean == result.fractions["bainite"]
try:
    report.fields
except microseg.MicrosegError as error:
    assert "pip install 'microseg[notebook]'" in str(error)
else:
    raise AssertionError
""",
        tiny_engine,
        tmp_path / "a.png",
        tmp_path / "report",
    )


def test_the_process_stays_as_it_was(tiny_engine: Path, tmp_path: Path) -> None:
    """Threads of other libraries, warning filters, signals, environment and folder, also while an engine is open."""
    Image.fromarray(micrograph(60, 70, 0)).save(tmp_path / "a.png")
    _run(
        """
import logging, os, signal, sys, warnings
import cv2, numpy, PIL.Image
warnings.simplefilter("default")
def state():
    handled = [signal.Signals(number) for number in signal.valid_signals() if number in set(signal.Signals)]
    return {
        "cv2": cv2.getNumThreads(), "optimised": cv2.useOptimized(), "environment": dict(os.environ), "signals": [signal.getsignal(number) for number in handled], "folder": os.getcwd(),
        "umask": os.umask(os.umask(0o22)) if False else None, "numpy": numpy.geterr(), "hook": sys.excepthook,
        "handlers": logging.getLogger().handlers[:], "level": logging.getLogger().level,
        "pixels": PIL.Image.MAX_IMAGE_PIXELS,
    }
cv2.setNumThreads(3)
before = state()
import microseg
engine, image, out = sys.argv[1:]
opened = microseg.load_engine(engine, threads=1)
def check(when):
    changed = {key: (value, state()[key]) for key, value in before.items() if state()[key] != value}
    assert not changed, (when, changed)
check("open")
for result in opened.predict_many([image, image]):
    check("while it predicts")
result.probability, result.overlay()
opened.close()
check("closed")
microseg.segment_folder(image, engine=engine, out=out, progress=lambda amount: check("while it segments"))
check("segmented")
""",
        tiny_engine,
        tmp_path / "a.png",
        tmp_path / "report",
    )


def test_the_environment_of_this_process_names_no_secret() -> None:
    assert os.environ.get("ORT_DISABLE_TELEMETRY", "1") == "1"
