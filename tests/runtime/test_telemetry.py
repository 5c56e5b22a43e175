"""A station reports to nobody: no runtime leaves an identifier in the user's home, which is what it would report under."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = """
import sys
from pathlib import Path
import numpy as np
from microseg.runtime import open_engine

with open_engine(Path(sys.argv[1]), runtime=sys.argv[2]) as engine:
    engine.run(np.zeros((1, 1, 64, 64), np.uint8))
assert not [name for name in sys.modules if "telemetry.main" in name]
"""


@pytest.mark.skipif(os.name == "nt", reason="the home is found otherwise on Windows")
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_nothing_is_left_at_home(tiny_engine: Path, tmp_path: Path, runtime: str) -> None:
    pytest.importorskip(runtime)
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, tiny_engine, runtime], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(tmp_path.iterdir())
