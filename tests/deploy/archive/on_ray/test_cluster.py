"""On a Ray cluster of this machine, with a killed worker. `make test` runs it where Ray is installed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from microseg.deploy.archive.lists.listing import list_fields
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.deploy.conftest import micrograph

pytest.importorskip("ray")
archive_ray = pytest.importorskip("benchmarks.archive_ray")

# Beside other tests, and where Ray is imported for the first time, a cluster takes a minute or two to start.
_LIMIT_S = 400
OWN = ("created", "run", "engine_calls", "input")


def test_a_killed_worker_loses_nothing(archive: Path, tiny_engine: Path, tmp_path: Path) -> None:
    for index in range(60):
        Image.fromarray(micrograph(200, 200, index)).save(archive / f"more{index}.png")
    (archive / "more3.png").write_bytes(b"no picture")
    listed, out = Path(list_fields(archive, tmp_path / "fields.parquet").place), tmp_path / "out"
    # A slow engine: the worker must be at work when it is killed.
    slow = tmp_path / "slow"
    slow.mkdir()
    (slow / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if any('default_worker' in each for each in sys.argv + sys.orig_argv):\n"
        "    from microseg.deploy.archive.sink import ArchiveSink\n"
        "    keep = ArchiveSink._keep\n"
        "    ArchiveSink._keep = lambda *given: (keep(*given), time.sleep(0.05))[0]\n"
    )
    arguments = ["segment", str(listed), "--engine", str(tiny_engine), "--out", str(out), "--on", "ray"]
    command = [sys.executable, "-m", "microseg", *arguments, "--cpus-per-actor", "1"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(slow), *sys.path]), "RAY_ADDRESS": "local"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        until = time.monotonic() + _LIMIT_S
        while not list(out.glob("fields/*.parquet")) and process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        victims = archive_ray.actors()
        assert victims
        os.kill(victims[0], signal.SIGKILL)
        told, errors = process.communicate(timeout=_LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 3, errors
    assert "raylet" not in told and "more3.png" in errors and "Traceback" not in errors
    one = segment(SegmentOptions(archive, tiny_engine, tmp_path / "one")).summary
    assert _same(json.loads((out / "summary.json").read_text(encoding="utf-8"))) == _same(one)
    assert len(pd.read_parquet(out / "fields")) == 66
    # Ray ends the processes of its cluster after the program that began it.
    until = time.monotonic() + _LIMIT_S
    while archive_ray.actors() and time.monotonic() < until:
        time.sleep(0.1)
    assert not archive_ray.actors()


def _same(summary: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in summary.items() if key not in OWN}
