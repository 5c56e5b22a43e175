"""The command line as a whole: help, versions, exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import microseg as package
from microseg.core.errors import FieldError, GateError, InputError
from tests.chain import microseg

HELP = """
import sys, time
sys.argv = ["microseg", "--help"]
from microseg.cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
heavy = sorted({"numpy", "torch", "cv2", "pydantic", "onnxruntime"} & set(sys.modules))
print(f"heavy={heavy} seconds={time.process_time():.3f}", file=sys.stderr)
"""


def test_help_is_quick_and_loads_no_framework() -> None:
    best = float("inf")
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", HELP], capture_output=True, text=True, encoding="utf-8", check=True
        )
        heavy, seconds = done.stderr.split()[-2:]
        assert heavy == "heavy=[]"
        best = min(best, float(seconds.removeprefix("seconds=")))
        if best < 0.5:
            break
    assert best < 0.5
    order = [done.stdout.index(panel) for panel in ("Look at data", "Train", "Export", "Measure")]
    assert order == sorted(order), "help reads like the workflow"
    commands = ("synth", "check", "train", "distill", "evaluate", "export", "inspect", "verify", "segment")
    order = [done.stdout.index(f"│ {command} ") for command in commands]
    assert order == sorted(order), "help reads like the workflow"


LOOKED_AT = """
import sys
import microseg.deploy.segment
from microseg.cli.main import main

def looked_at(path):
    loaded = {"numpy", "cv2", "onnxruntime", "microseg.cli.train.train", "microseg.cli.look.check"}
    print(sorted(loaded & set(sys.modules)), flush=True)
    raise KeyboardInterrupt

microseg.deploy.segment.EngineFile = looked_at
sys.argv = ["microseg", "segment", "fields", "--engine", "a.onnx"]
main()
"""


def test_segment_looks_at_the_engine_before_its_imports_and_without_other_commands() -> None:
    done = subprocess.run([sys.executable, "-c", LOOKED_AT], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (130, "microseg: interrupted; finished results are complete.\n")
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["segment"],
        ["train", "supervised"],
        ["train", "supervised", "domain", "--folds", "1"],
        ["train", "supervised", "domain", "--seed", "x"],
        ["export", "run", "--out"],
        ["evaluate", "model"],
        ["inspect", "engine.onnx", "--colour"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    outcome = microseg(*arguments)
    assert outcome.status == 2
    assert "Usage" in outcome.err or "Error" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "nowhere"],
        ["train", "supervised", "nowhere"],
        ["evaluate", "nowhere", "nowhere"],
        ["export", "nowhere"],
        ["inspect", "nowhere.onnx"],
        ["segment", "nowhere", "--engine", "nowhere.onnx"],
    ],
    ids=" ".join,
)
def test_a_wrong_path_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = microseg(*arguments)
    assert outcome.status == 2
    assert outcome.err.startswith("microseg: nowhere")
    assert "Traceback" not in outcome.err
    assert not list(tmp_path.iterdir()), "nothing done"


def test_version() -> None:
    outcome = microseg("--version")
    assert (outcome.status, outcome.out) == (0, f"microseg {package.__version__}\n")


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (InputError("a.tif: bad"), 2, "microseg: a.tif: bad\n"),
        (FieldError("a.tif: cut off"), 3, "microseg: a.tif: cut off\n"),
        (GateError("beyond"), 4, "microseg: beyond\n"),
        (OSError(28, "No space left on device", "out.onnx"), 2, "microseg: out.onnx: No space left on device."),
        (
            RuntimeError("Symlink loop from 'out'"),
            2,
            "microseg: 'out': its links lead in a circle. Remedy: another path.",
        ),
        (ModuleNotFoundError("no torch", name="torch"), 2, "microseg: needs the package 'torch'. Remedy: pip install"),
        (ModuleNotFoundError("no onnx", name="onnx.helper"), 2, "pip install 'microseg[export]'"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors_are_messages_with_their_status(
    monkeypatch: pytest.MonkeyPatch, error: Exception, status: int, message: str
) -> None:
    monkeypatch.setattr("microseg.runtime.EngineFile", _raiser(error))
    outcome = microseg("inspect", "a.onnx")
    assert outcome.status == status
    assert message in outcome.err
    assert "Traceback" not in outcome.err


def test_our_own_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microseg.runtime.EngineFile", _raiser(ModuleNotFoundError("no such", name="microseg.x")))
    with pytest.raises(ModuleNotFoundError):
        microseg("inspect", "a.onnx")


def test_ctrl_c_exits_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(status: int) -> None:
        raise SystemExit(status)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr("microseg.runtime.EngineFile", _raiser(KeyboardInterrupt()))
    outcome = microseg("inspect", "a.onnx")
    assert outcome.status == 130
    assert outcome.err == "microseg: interrupted; finished results are complete.\n"


def test_ctrl_c_before_anything_is_imported() -> None:
    code = (
        "import sys; from microseg.__main__ import main\n"
        "class Interrupting:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'typer':\n"
        "            raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupting())\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (130, "microseg: interrupted before the start.\n")


def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    code = (
        "import tempfile, time; from pathlib import Path; from microseg.cli.main import main; import microseg.runtime\n"
        "def wait(path):\n"
        "    with tempfile.TemporaryDirectory(dir='.'):\n"
        "        Path('ready').touch()\n"
        "        time.sleep(60)\n"
        "microseg.runtime.EngineFile = wait\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "inspect", "a.onnx"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 50
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    process.terminate()
    assert process.communicate(timeout=50)[1] == "microseg: interrupted; finished results are complete.\n"
    assert process.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def _raiser(error: BaseException) -> object:
    def raises(*arguments: object) -> None:
        raise error

    return raises
