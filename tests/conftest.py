"""Fixtures shared by all tests. What takes seconds is made once a session, and nothing may change it."""

from __future__ import annotations

import functools
import gc
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Files that take longest. They begin first, so that both workers end together.
_LONGEST = (
    "train/uda/test_command.py",
    "train/uda/test_training.py",
    "models/test_networks.py",
    "export/tensorrt/test_plan.py",
    "train/common/test_ranks.py",
    "export/precision/test_reduced_export.py",
    "export/torch_graph/test_bag.py",
    "test_side_effects.py",
    "train/common/test_parallel.py",
    "train/analysis/test_study.py",
    "browser/test_report_page.py",
    "browser/test_audit_page.py",
    "deploy/test_segment.py",
    "test_distill.py",
    "export/test_graph_rewrites.py",
    "train/test_real_micrographs.py",
)

# Modules that build networks, and whether a file's weights replace the initial ones.
_BUILDERS = {
    "microseg.models.build": True,
    "microseg.train.common.run_folder": True,
    "microseg.train.supervised.loop": False,
    "microseg.train.distillation.loop": False,
}


def pytest_collection() -> None:
    """What is imported lives to the end: the garbage collector need not pass over it, then or ever after."""
    gc.disable()


def pytest_collection_finish() -> None:
    """The collector is back, for what the tests make."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    gc.enable()


def pytest_runtest_setup() -> None:
    """PyTorch's exporter fills its table of 500 operators anew for every network. The tests export dozens: once is enough."""
    exporter = sys.modules.get("torch.onnx._internal.exporter._registration")
    table: Any = getattr(exporter, "ONNXRegistry", None)
    if hasattr(table, "from_torchlib") and not hasattr(table.from_torchlib, "cache_info"):
        table.from_torchlib = staticmethod(functools.cache(table.from_torchlib))
    _copy_networks()


def _copy_networks() -> None:
    """A network takes 0.3 s to build and a tenth of that to copy: training and loading build each one once."""
    for name, is_loaded in _BUILDERS.items():
        module: Any = sys.modules.get(name)
        if hasattr(module, "build_network") and not hasattr(module.build_network, "__wrapped__"):
            from tests.networks import built_once

            module.build_network = built_once(module.build_network, weights_follow=is_loaded)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files of `_LONGEST` first; the others stay in order."""
    rank = {Path(__file__).parent / name: index for index, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def _shared(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """What the first worker that needs it makes, and all workers read."""
    from filelock import FileLock

    own = factory.getbasetemp()
    place = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "shared"
    place.mkdir(exist_ok=True)
    made, path = place / f"{name}.made", place / name
    with FileLock(place / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(path, ignore_errors=True)  # of a worker that failed halfway
            path.mkdir()
            make(path)
            made.touch()
    return path


@pytest.fixture(scope="session")
def tiny_engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-fold engine that thresholds a 3 x 3 mean: dark is `ferrite`, bright is `bainite`."""
    from tests.engines import write_threshold_engine

    return write_threshold_engine(tmp_path_factory.mktemp("engine") / "tiny.onnx")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A labelled domain of four synthetic fields."""
    from tests.chain import tiny_domain

    return _shared(tmp_path_factory, "domain", lambda place: tiny_domain(place / "source")) / "source"


@pytest.fixture(scope="session")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled fields that no network was trained on."""
    from tests.chain import tiny_domain

    return tiny_domain(tmp_path_factory.mktemp("domains") / "unseen", fields=2, seed=1001)


@pytest.fixture(scope="session")
def trained(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two folds on `source`."""
    from tests.chain import train

    return _shared(tmp_path_factory, "training", lambda place: train(source, place / "run", draws=True)) / "run"


@pytest.fixture(scope="session")
def exported(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine of `trained`, through the gate, with reference tiles."""
    from microseg.export.onnx_export import export_run
    from microseg.export.reference_tiles import Candidates
    from microseg.synthetic.tiles import reference_tiles

    def export(place: Path) -> None:
        export_run(trained, place / "bagged.onnx", reference=lambda: Candidates("synthetic", reference_tiles()))

    return _shared(tmp_path_factory, "export", export) / "bagged.onnx"


@pytest.fixture(autouse=True)
def _own_configuration(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profiles that `tune` left on this machine are none of the tests' business."""
    monkeypatch.setenv("MICROSEG_CONFIG", str(tmp_path_factory.getbasetemp() / "no-configuration"))
