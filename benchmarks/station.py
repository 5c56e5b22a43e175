"""`python -m benchmarks.station`: `segment` in a station's environment (`pip install .[cpu]`, no torch) beside this one.

Prints how many masks are equal byte for byte. The engine is the one that `benchmarks.real_data` left, the fields are
those of `superalloy/test`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from microseg.core.system.files import sha256_of, write_json
from microseg.runtime import EngineFile

ROOT = Path(__file__).parents[1]
DATA = Path(os.environ.get("MICROSEG_DATA", ROOT / ".." / "shared" / "data"))


def main() -> None:
    """Install the station, segment twice, compare, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", type=Path, default=Path("runs/superalloy-benchmark.onnx"))
    parser.add_argument("--fields", type=Path, default=DATA / "superalloy" / "test")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = compare(options.engine.resolve(), options.fields.resolve(), Path(work))
    print(
        f"{found['equal']} of {found['masks']} masks are equal; the station holds {found['station_packages']} packages"
    )
    if options.json:
        write_json(options.json, found)
    raise SystemExit(0 if found["equal"] == found["masks"] else 1)


def compare(engine: Path, fields: Path, work: Path) -> dict[str, Any]:
    """Masks of both environments, by name and content."""
    python = work / "station" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([sys.executable, "-m", "venv", work / "station"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[cpu]"], check=True)
    listed = subprocess.run(
        [python, "-m", "pip", "list", "--format=freeze"], check=True, capture_output=True, text=True
    )
    packages = [line.partition("==")[0] for line in listed.stdout.splitlines()]
    assert "torch" not in packages, "the station must not carry torch"
    masks: dict[str, dict[str, str]] = {}
    for name, interpreter in (("station", python), ("training", Path(sys.executable))):
        report = work / f"{name}-report"
        # Away from the checkout, so that the station runs what was installed.
        paths = ["segment", str(fields), "--engine", str(engine), "--out", str(report)]
        subprocess.run([str(interpreter), "-m", "microseg", *paths], check=True, cwd=work, capture_output=True)
        found = sorted((report / "masks").rglob("*.png"))
        masks[name] = {path.relative_to(report).as_posix(): sha256_of(path) for path in found}
    equal = sum(masks["station"].get(name) == sha256 for name, sha256 in masks["training"].items())
    return {
        "equal": equal,
        "masks": len(masks["training"] | masks["station"]),
        "station_packages": len(packages),
        "engine_sha256": EngineFile(engine).sha256,
        "machine": machine(),
    }


if __name__ == "__main__":
    main()
