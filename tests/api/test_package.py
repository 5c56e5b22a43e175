"""`import microseg`: what it names, what it loads, and what it leaves alone."""

from __future__ import annotations

import pickle
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
    code = "import sys, time; begun = time.process_time(); import microseg; print(time.process_time() - begun, *sys.modules)"
    answers = [subprocess.check_output([sys.executable, "-c", code], text=True).split() for _ in range(3)]
    assert not set(HEAVY) & set(answers[0])
    assert min(float(seconds) for seconds, *_ in answers) < 0.1


def test_every_name_is_there_and_none_hides_a_package() -> None:
    assert set(microseg.__all__) <= set(dir(microseg))
    packages = {path.parent.name for path in Path(microseg.__file__).parent.glob("*/__init__.py")}
    assert not packages & set(microseg.__all__)
    _run("import microseg; assert all(callable(getattr(microseg, name)) for name in microseg.__all__)")
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
def state():
    return {
        "cv2": cv2.getNumThreads(), "environment": dict(os.environ), "folder": os.getcwd(), "numpy": numpy.geterr(),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], "hook": sys.excepthook,
        "warnings": list(warnings.filters),
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


def test_every_error_of_the_api_is_there() -> None:
    errors = {"FieldError", "GateError", "InputError", "MicrosegError", "MissingExtraError", "TrainingError"}
    assert errors <= set(microseg.__all__)
    assert all(issubclass(getattr(microseg, name), microseg.MicrosegError) for name in errors)


def test_errors_name_arguments(tiny_engine: Path, tmp_path: Path) -> None:
    Image.fromarray(micrograph(60, 70, 0)).save(tmp_path / "a.png")
    with pytest.raises(microseg.InputError) as caught:
        microseg.segment_folder(tmp_path, engine=tiny_engine, domain="lom", out=tmp_path.parent / "report")
    assert str(caught.value).startswith("domain 'lom': ") and "--" not in str(caught.value)
    with pytest.raises(microseg.InputError, match=r"^threads 9999: ") as caught:
        microseg.load_engine(tiny_engine, threads=9999)
    assert "--" not in str(caught.value)
    with microseg.load_engine(tiny_engine) as engine, pytest.raises(microseg.InputError, match=r"^domain 'lom'"):
        engine.predict(tmp_path / "a.png", domain="lom")
    with pytest.raises(microseg.InputError, match=r"^method magic"):
        microseg.train_uda(tmp_path, method="magic")


def test_functions_can_be_sent_to_other_processes() -> None:
    for name in ("segment_folder", "load_engine", "train_supervised", "export_engine"):
        assert pickle.loads(pickle.dumps(getattr(microseg, name))) is getattr(microseg, name)
