"""A second start takes what OpenVINO compiled from the file beside the engine, and only if it is this engine's."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from microseg.runtime import Engine, open_engine, openvino_cache, openvino_engine
from tests.engines import write_threshold_engine

TILES = np.random.default_rng(0).integers(0, 256, (2, 1, 24, 32), np.uint8)


@pytest.fixture
def engine(tiny_engine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_engine, tmp_path / "bagged.onnx"))


def opened(path: Path, threads: int = 1) -> Engine:
    return open_engine(path, threads, runtime="openvino")


def labels(path: Path) -> NDArray[np.uint8]:
    with opened(path) as running:
        return running.run(TILES).labels


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every engine that is compiled."""
    found: list[Path] = []
    compile_ = openvino_engine._compile

    def watched(path: Path, *arguments: Any) -> Any:
        found.append(path)
        return compile_(path, *arguments)

    monkeypatch.setattr(openvino_engine, "_compile", watched)
    return found


def test_a_second_start_compiles_nothing_and_says_the_same(engine: Path, compilations: list[Path]) -> None:
    with opened(engine) as first, opened(engine) as second:
        assert compilations == [engine]
        assert {path.name for path in engine.parent.iterdir()} == {"bagged.onnx", "bagged.onnx.openvino"}
        for height, width in ((24, 32), (64, 48), (8, 8)):
            tiles = np.random.default_rng(height).integers(0, 256, (3, 1, height, width), np.uint8)
            wanted, found = first.run(tiles), second.run(tiles)
            assert np.array_equal(wanted.labels, found.labels) and np.array_equal(wanted.votes, found.votes)
        assert second.provider == first.provider
        assert second.run(TILES, features=True).features is not None


def test_another_engine_of_the_same_name_is_compiled(engine: Path, tmp_path: Path, compilations: list[Path]) -> None:
    before = labels(engine)
    write_threshold_engine(engine, thresholds=((0.1,), (0.1,)))
    assert not np.array_equal(labels(engine), before)
    assert len(compilations) == 2
    labels(engine)
    assert len(compilations) == 2


def test_other_threads_versions_and_processors_are_compiled(
    engine: Path, compilations: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(engine, 1).close()
    opened(engine, 2).close()
    assert len(compilations) == 2
    monkeypatch.setattr(openvino, "get_version", lambda: "2020.1")
    opened(engine, 2).close()
    assert len(compilations) == 3


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"x" + data[-8:], lambda data: b""]
)
def test_a_damaged_file_is_replaced(engine: Path, compilations: list[Path], damage: Any) -> None:
    wanted = labels(engine)
    place = engine.with_name("bagged.onnx.openvino")
    whole = place.read_bytes()
    place.write_bytes(damage(whole))
    assert np.array_equal(labels(engine), wanted)
    assert len(compilations) == 2
    assert np.array_equal(labels(engine), wanted) and len(compilations) == 2


def test_a_folder_that_cannot_be_written_costs_time_only(
    engine: Path, compilations: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, data: bytes) -> None:
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(openvino_cache, "write_bytes", refused)
    assert np.array_equal(labels(engine), labels(engine))
    assert len(compilations) == 2


def test_converters_can_still_be_imported() -> None:
    assert sys.modules.get("openvino.tools.ovc", sys) is not None
