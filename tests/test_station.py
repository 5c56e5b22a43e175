"""A station carries no torch and no tables: what it runs works in a process where neither can be imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from tests.engines import with_reference

STATION = """
import importlib, pkgutil, sys

TRAINING = {"torch", "torchvision", "timm", "segmentation_models_pytorch", "albumentations", "safetensors", "matplotlib",
            "onnx", "onnxscript", "pyarrow", "fsspec", "s3fs", "duckdb", "pandas"}

class Blocked:
    stages = ("microseg.models", "microseg.train", "microseg.export")

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in TRAINING or name.startswith(self.stages):
            raise ModuleNotFoundError(f"{name} is not on a station", name=name)

blocked = Blocked()
sys.meta_path.insert(0, blocked)

import microseg.core, microseg.deploy, microseg.runtime, microseg.synthetic
from microseg.cli.main import main

for package in (microseg.core, microseg.deploy, microseg.runtime, microseg.synthetic):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        importlib.import_module(module.name)

engine, folder, domain, report = sys.argv[1:]
for arguments in (
    ["segment", folder, "--engine", engine, "--out", report],
    ["evaluate", engine, domain],
    ["validate", engine, domain],
    ["inspect", engine],
    ["verify", engine, domain, "--min-miou", "0", "--out", report + "-verify.json"],
    ["verify", engine, folder, "--against", engine, "--runtime", "openvino", "--out", report + "-openvino.json"],
    ["tune", engine, "--seconds", "1", "--field-px", "64", "64"],
    ["check", domain, "--folds", "2"],
    ["suggest", engine, folder, "--n", "1", "--out", report + "-label"],
):
    sys.argv = ["microseg", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert not stop.code, (arguments, stop.code)
blocked.stages = ()
for arguments in (
    ["train", "supervised", domain, "--recipe", "demo", "--out", report + "-run"],
    ["verify", engine, folder, "--against", domain],
):
    sys.argv = ["microseg", *arguments]
    try:
        main()
    except SystemExit as stop:
        assert stop.code == 2, stop.code
    else:
        raise AssertionError("trained without torch")
assert not TRAINING & set(sys.modules)
"""


def test_the_station_needs_no_torch(tiny_engine: Path, tmp_path: Path) -> None:
    domain = tmp_path / "domain"
    for index in range(2):
        pixels = np.random.default_rng(index).integers(0, 256, (48, 64), np.uint8)
        for name, content in (("images", pixels), ("masks", (pixels > 110).astype(np.uint8))):
            (domain / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(domain / name / f"{index}.png")
    report = tmp_path / "report"
    engine = with_reference(tiny_engine, tmp_path / "engine.onnx")
    done = subprocess.run(
        [sys.executable, "-c", STATION, str(engine), str(domain / "images"), str(domain), str(report)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"MICROSEG_CONFIG": str(tmp_path / "configuration")},
    )
    assert done.returncode == 0, done.stderr
    assert (report / "report.html").is_file()
    assert len(list((report / "masks").rglob("*.png"))) == 2
    assert done.stderr.count("pip install 'microseg[train]'") == 2
