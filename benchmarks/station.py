"""`python -m benchmarks.station`: `segment` in a station's environment (`pip install .[cpu]`, no torch) beside this one.

Prints the size of each package and how many masks are equal byte for byte. The engine is the one that
`benchmarks.real_data` left, the fields are those of `superalloy/test`. `--sizes` prints the sizes alone.
"""

from __future__ import annotations

import argparse
import json
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
    parser.add_argument("--sizes", action="store_true", help="print the sizes of the packages and stop")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        python = install(Path(work))
        sizes = package_sizes(python)
        print(f"{'package':30}{'MB':>8}")
        for name, megabytes in [*sizes.items(), ("total", sum(sizes.values()))]:
            print(f"{name:30}{megabytes:8.1f}")
        if options.sizes:
            if options.json:
                write_json(options.json, {"megabytes": sum(sizes.values()), "package_megabytes": sizes})
            return
        found = compare(python, options.engine.resolve(), options.fields.resolve(), Path(work))
        found |= {"megabytes": sum(sizes.values()), "package_megabytes": sizes}
    print(
        f"{found['equal']} of {found['masks']} masks are equal; the station holds {found['station_packages']} packages"
    )
    if options.json:
        write_json(options.json, found)
    raise SystemExit(0 if found["equal"] == found["masks"] else 1)


def install(work: Path) -> Path:
    """The interpreter of a fresh environment with the station's packages."""
    python = work / "station" / ("Scripts" if os.name == "nt" else "bin") / "python"
    subprocess.run([sys.executable, "-m", "venv", work / "station"], check=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"{ROOT}[cpu]"], check=True, cwd=work)
    return python


_SIZES = """
import json
from importlib.metadata import distributions

sizes = {}
for found in distributions():
    paths = [path.locate() for path in found.files or ()]
    sizes[found.metadata["Name"]] = sum(path.stat().st_size for path in paths if path.is_file()) / 1e6
print(json.dumps(sizes))
"""


def package_sizes(python: Path) -> dict[str, float]:
    """Megabytes (10**6 bytes) of the files of each package in an environment, compiled ones included, largest first."""
    told = subprocess.run([python, "-c", _SIZES], check=True, capture_output=True, text=True, cwd=python.parent)
    sizes: dict[str, float] = json.loads(told.stdout)
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def compare(python: Path, engine: Path, fields: Path, work: Path) -> dict[str, Any]:
    """Masks of both environments, by name and content."""
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
