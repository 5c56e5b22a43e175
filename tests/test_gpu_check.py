"""`deploy/gpu-check` as far as it goes without a GPU: nothing here stands for a figure of one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu_check, gpu_steps
from benchmarks.gpu_check import Step, carry_out, markdown, profile_for, serves, steps, write_record
from microseg.core.errors import MicrosegError
from microseg.runtime import EngineOutput, open_engine
from microseg.runtime.tensorrt.device import find_gpu
from tests.command_line import parsed
from tests.plans import needs_rtx

ROOT = Path(__file__).parents[1]


@needs_rtx
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_without_a_gpu_one_message_and_nothing_written(tmp_path: Path) -> None:
    if find_gpu("tensorrt-rtx") is not None:
        pytest.skip("this machine has a GPU")
    command: list[str | Path] = [ROOT / "deploy" / "gpu-check", "--out", tmp_path / "out", "--work", tmp_path / "work"]

    def check(*more: str) -> subprocess.CompletedProcess[str]:
        environment = os.environ | {"PYTHON": sys.executable}
        return subprocess.run(
            [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, encoding="utf-8"
        )

    done = check()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("gpu-check: needs an NVIDIA GPU and its driver, and none is found here. Remedy: ")
    assert done.stderr.count("\n") == 1 and not list(tmp_path.iterdir())
    done = check("--run", "a")
    assert done.returncode == 2 and "--run and --fields belong together" in done.stderr


@pytest.mark.parametrize("given", [False, True])
def test_every_command_is_one_that_there_is(tmp_path: Path, given: bool) -> None:
    run, fields = (tmp_path / "run", tmp_path / "fields") if given else (None, None)
    planned = steps(tmp_path, gpu_check.FLAVOURS, 24000, run, fields, 5.0, cuda_provider=True)
    names = [step.name for step in planned]
    without = [step.name for step in steps(tmp_path, gpu_check.FLAVOURS, 24000, run, fields, 5.0, cuda_provider=False)]
    assert set(names) - set(without) == {"speed onnxruntime cuda fp32", "speed onnxruntime cuda fp16"}
    assert len(set(names)) == len(names) and ("train" in names) != given
    for flavour in gpu_check.FLAVOURS:
        for precision in gpu_check.PRECISIONS:
            assert {f"{kind} {flavour} {precision}" for kind in ("plan", "verify", "speed")} <= set(names)
    for number, step in enumerate(planned):
        assert set(step.needs) <= set(names[:number]), step.name
        _, _, module, *rest = step.command
        match module:
            case "microseg":
                parsed(rest)
            case "benchmarks.gpu_steps":
                gpu_steps.arguments().parse_args(rest)
            case _:
                assert (module, rest[0]) == ("pytest", "tests/gpu") and (ROOT / rest[0]).is_dir()


def test_a_flavour_without_plans_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_check, "is_installed", lambda name: name == "tensorrt_rtx")
    rows = gpu_check.absent([], "9.0", cuda_provider=True)
    assert [(row["name"], row["state"]) for row in rows] == [
        ("plans tensorrt_rtx", "not run"),
        ("plans tensorrt", "not run"),
    ]
    assert "no kernels for compute capability 9.0" in rows[0]["reason"] and "microseg[tensorrt]" in rows[1]["reason"]
    assert gpu_check.absent(gpu_check.FLAVOURS, "9.0", cuda_provider=True) == []


def test_onnx_runtime_for_the_cpu_alone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import onnxruntime

    for providers, found in ((["CUDAExecutionProvider", "CPUExecutionProvider"], 0), (["CPUExecutionProvider"], 1)):
        monkeypatch.setattr(onnxruntime, "get_available_providers", lambda providers=providers: providers)
        rows = gpu_check.absent(gpu_check.FLAVOURS, "9.0", gpu_check.has_cuda_provider())
        assert [row["state"] for row in rows] == ["not run"] * found
        assert all("pip install 'microseg[gpu]'" in row["reason"] for row in rows)


def test_profiles_by_memory() -> None:
    from microseg.export.tensorrt.plan_profile import load_profile

    found = {
        (flavour, memory): profile_for(flavour, memory)
        for flavour in gpu_check.FLAVOURS
        for memory in (4000, 8000, 80000)
    }
    assert set(found.values()) == {"rtx-small", "rtx-station", "t4", "a100"}
    for (flavour, _), name in found.items():
        assert load_profile(name)[1].flavour == flavour
    assert profile_for("tensorrt", None) == "t4"
    # Hopper has no kernels in TensorRT for RTX.
    assert not serves("tensorrt_rtx", "9.0") and serves("tensorrt", "9.0") and serves("tensorrt_rtx", "8.6")


def code(text: str) -> tuple[str, ...]:
    return (sys.executable, "-c", text)


def test_a_step_that_fails_takes_no_other_along() -> None:
    crash = "import os, signal, sys; print('CUDA error 700', file=sys.stderr, flush=True); os.kill(os.getpid(), signal.SIGSEGV)"
    planned = [
        Step("figures", code("print('words'); print('{\"fields_per_second\": 2.5}')")),
        Step("gate", code("import sys; print('a table'); print('beyond its limit', file=sys.stderr); sys.exit(4)")),
        Step("silent", code("raise SystemExit(3)")),
        Step("crash", code(crash)),
        Step("slow", code("import time; time.sleep(60)"), limit_s=0.5),
        Step("after", code("print('12 passed')"), needs=("figures",)),
        Step("after the crash", code(""), needs=("figures", "crash", "after the crash")),
    ]
    done: list[dict[str, Any]] = []
    for step in planned:
        done.append(carry_out(step, done))
    assert {step["name"]: step["reason"] for step in done} == {
        "figures": None,
        "gate": "exit 4: beyond its limit",
        "silent": "exit 3: no word",
        "crash": "ended by SIGSEGV: CUDA error 700",
        "slow": "not done after 0.5 s",
        "after": None,
        "after the crash": "needs crash, after the crash",
    }
    assert [step["state"] for step in done] == ["ok", "failed", "failed", "failed", "failed", "ok", "not run"]
    assert done[0]["figures"] == {"fields_per_second": 2.5} and done[5]["told"] == "12 passed"


RECORD: dict[str, Any] = {
    "gpu": "NVIDIA Rehearsal 1/2",
    "compute_capability": "8.6",
    "cuda_driver": "13.0",
    "memory_mb": 24564,
    "created": "2026-11-25T12:00:00+00:00",
    "versions": {"microseg": "0.1.0"},
    "steps": [
        {
            "name": "speed tensorrt fp16", "state": "ok", "reason": None, "seconds": 12.34, "gpu_memory_mb": 900,
            "figures": {"fields_per_second": 31.416, "megapixels_per_second": 92.2, "provider": "TensorRT on a card"},
        },
        {"name": "verify tensorrt int8", "state": "failed", "reason": "exit 4: a | b", "seconds": 3.0, "gpu_memory_mb": None},
        {"name": "two plans", "state": "not run", "reason": "needs plan tensorrt int8"},
        {
            "name": "training step", "state": "ok", "reason": None, "seconds": 60.0, "gpu_memory_mb": 30000,
            "figures": {
                "network": "DeepLabv2", "steps_per_second": 2.0, "hours_of_the_paper": 5.83, "paper_epochs": 3000,
            },
        },
        {"name": "tests/gpu", "state": "ok", "reason": None, "seconds": 9.0, "gpu_memory_mb": 800, "told": "12 passed"},
    ],
}  # fmt: skip


def test_the_table(tmp_path: Path) -> None:
    write_record(tmp_path, RECORD)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nvidia-rehearsal-1-2.json", "nvidia-rehearsal-1-2.md"]
    assert json.loads((tmp_path / "nvidia-rehearsal-1-2.json").read_text(encoding="utf-8")) == RECORD
    text = (tmp_path / "nvidia-rehearsal-1-2.md").read_text(encoding="utf-8")
    assert text == markdown(RECORD)
    rows = [line for line in text.splitlines() if line.startswith("| ")][2:]
    assert rows == [
        "| speed tensorrt fp16 | ok | 12.3 | 900 | 31.42 | 92.2 | TensorRT on a card |",
        "| verify tensorrt int8 | failed | 3.0 |  |  |  | exit 4: a / b |",
        "| two plans | not run |  |  |  |  | needs plan tensorrt int8 |",
        "| training step | ok | 60.0 | 30000 |  |  | DeepLabv2: 2.00 steps/s, 5.8 h for 3000 epochs |",
        "| tests/gpu | ok | 9.0 | 800 |  |  | 12 passed |",
    ]


def test_what_is_measured_can_be_measured(exported: Path, trained: Path, unseen: Path) -> None:
    """On the CPU, for the code's sake."""
    ours = gpu_steps.engine_speed(exported, unseen, 0.1, "cpu")
    theirs = gpu_steps.torch_speed(trained, exported, unseen, 0.1, half=False, compiled=False, device="cpu")
    both = gpu_steps.together_speed([exported, exported], unseen, 0.1)
    for found in (ours, theirs, both):
        assert found["fields_per_second"] > 0
        assert found["megapixels_per_second"] == pytest.approx(found["fields_per_second"] * 180 * 150 / 1e6)
        assert (found["tile_px"], found["batch"]) == (ours["tile_px"], 2)
    assert ours["provider"] == "CPUExecutionProvider" and theirs["provider"] == "PyTorch"


def test_plans_that_disturb_each_other_are_told(exported: Path, unseen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = 0

    def open_disturbed(path: Path) -> Any:
        nonlocal opened
        opened += 1
        engine = open_engine(path)
        if opened > 2:
            run = engine.run
            monkeypatch.setattr(engine, "run", lambda tiles: _flipped(run(tiles)))
        return engine

    monkeypatch.setattr(gpu_steps, "open_engine", open_disturbed)
    with pytest.raises(MicrosegError, match=r"bagged\.onnx: 100\.0000 % of its labels change beside another engine"):
        gpu_steps.together_speed([exported, exported], unseen, 0.1)


def _flipped(out: Any) -> Any:
    return EngineOutput(labels=1 - out.labels, votes=out.votes)


def test_a_training_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_steps, "WARM_UP_STEPS", 0)
    found = gpu_steps.training_speed(
        1, encoder="tf_efficientnet_lite0", device="cpu", core_px=48, halo_px=8, batch=1, reduced=False
    )
    # 3,000 epochs of 28 fields of four tiles in batches of 8.
    assert found["paper_steps"] == 3000 * 28 * 4 / 8
    assert found["hours_of_the_paper"] == pytest.approx(found["paper_steps"] / found["steps_per_second"] / 3600)
    assert np.isfinite(list(found["losses"].values())).all()
    assert {"segmentation", "target", "discriminator"} <= set(found["losses"])
