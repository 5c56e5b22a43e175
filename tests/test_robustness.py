"""`benchmarks.robustness` in small: damaged files, kills and a full disk lose nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.robustness import RECIPE, content_of, damaged, full, killed, torn_files
from tests.chain import tiny_recipe

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


def test_damaged_files_are_named_and_the_others_measured(tiny_engine: Path, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    found = damaged(400, tmp_path / "damaged", seed, tiny_engine)
    assert found["failed"] + found["measured"] == 400 and found["failed"] > 100


def test_kills_leave_whole_files_and_the_same_report(tiny_engine: Path, tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    assert killed(3, tmp_path / "killed", seed, tiny_engine)["kills"] == 3


def test_a_full_disk_leaves_whole_files_and_the_same_report(tiny_engine: Path, tmp_path: Path) -> None:
    found = full(1, tmp_path / "full", 7, tiny_engine)
    if "not tried" in found:
        pytest.skip(found["not tried"])
    assert found["full disks"] == 1


def test_a_trial_that_fails_ends_with_1_and_says_the_seed(tiny_engine: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.robustness", "--engine", str(tmp_path / "none.onnx"), "--seed", "5"]
    counts = ["--damaged", "1", "--kills", "0", "--training-kills", "0", "--full", "0"]
    env = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run([*command, *counts], cwd=Path(__file__).parents[1], env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "seed 5" in done.stdout and "seed 5; left in" in done.stderr


def test_torn_files_are_found(tmp_path: Path) -> None:
    (tmp_path / "whole.json").write_text("{}")
    (tmp_path / "torn.json").write_text("{")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "torn.csv").write_text("a,b\n1,")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10")
    (tmp_path / "torn.json.17-0a.part").write_text("{")
    assert [Path(name).name for name in torn_files(tmp_path)] == [
        "torn.csv", "torn.json", "torn.png", "torn.safetensors",
    ]  # fmt: skip


def test_times_are_not_compared(tmp_path: Path) -> None:
    for name, seconds in (("a", 1.0), ("b", 2.0)):
        (tmp_path / name).mkdir()
        content = {"seconds": seconds, "folds": [{"seconds": seconds, "miou": 0.5}]}
        (tmp_path / name / "summary.json").write_text(json.dumps(content))
    assert content_of(tmp_path / "a") == content_of(tmp_path / "b")


def test_the_recipe_of_the_trial_is_one() -> None:
    assert tiny_recipe(**RECIPE).steps == RECIPE["steps"]
