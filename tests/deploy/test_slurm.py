"""The job script: a row of a study for each task of the array, put back into the queue when it was told to stop."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "slurm" / "study.sbatch"


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(("status", "requeued", "left"), [(0, False, 0), (130, True, 0), (3, False, 3)])
def test_the_array_script(tmp_path: Path, status: int, requeued: bool, left: int) -> None:
    for name, ending in (("srun", f"exit {status}"), ("scontrol", "exit 0")):
        (tmp_path / name).write_text(f'#!/bin/bash\necho "{name} $*" >> "$CALLS"\n{ending}\n')
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"),
        "SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_JOB_ID": "77",
    }  # fmt: skip
    done = subprocess.run(["bash", SCRIPT, "studies/my table.yaml"], env=environment)
    assert done.returncode == left
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "srun microseg study studies/my table.yaml --out runs/my table --row 3"
    assert calls[1:] == (["scontrol requeue 77_3"] if requeued else [])


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(("status", "requeued", "left"), [(0, False, 0), (130, True, 0), (3, False, 0), (2, False, 2)])
def test_the_shards_of_an_archive(tmp_path: Path, status: int, requeued: bool, left: int) -> None:
    for name, ending in (("srun", f"exit {status}"), ("scontrol", "exit 0")):
        (tmp_path / name).write_text(f'#!/bin/bash\necho "{name} $*" >> "$CALLS"\n{ending}\n')
        (tmp_path / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "CALLS": str(tmp_path / "calls"),
        "SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_MIN": "3", "SLURM_ARRAY_TASK_COUNT": "64", "SLURM_ARRAY_JOB_ID": "77",
    }  # fmt: skip
    script = SCRIPT.with_name("segment.sbatch")
    done = subprocess.run(["bash", script, "my fields.parquet", "a.onnx", "out", "--masks", "none"], env=environment)
    assert done.returncode == left
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == "srun microseg segment my fields.parquet --engine a.onnx --out out --shard 3/64 --masks none"
    assert calls[1:] == (["scontrol requeue 77_5"] if requeued else [])
