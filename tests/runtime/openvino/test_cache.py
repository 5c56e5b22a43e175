"""A second start takes what OpenVINO compiled from the file beside the engine, and only if it is this engine's."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from numpy.typing import NDArray

from microseg.runtime import Engine, EngineFile, begin_loading, open_engine
from microseg.runtime.openvino import cache as openvino_cache
from microseg.runtime.openvino import engine as openvino_engine
from microseg.runtime.runtime_config import choose
from microseg.runtime.signature import wanted_outputs
from tests.engines import write_threshold_engine

TILES = np.random.default_rng(0).integers(0, 256, (2, 1, 24, 32), np.uint8)


@pytest.fixture
def engine(tiny_engine: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(tiny_engine, tmp_path / "bagged.onnx"))


@pytest.fixture(autouse=True)
def _always_worth(monkeypatch: pytest.MonkeyPatch) -> None:
    """These engines compile in no time."""
    monkeypatch.setattr(openvino_cache, "_WORTH_SECONDS_PER_BYTE", 0.0)


def opened(path: Path, threads: int = 1) -> Engine:
    """As `segment` opens it."""
    with ThreadPoolExecutor(1) as executor:
        file = EngineFile(path)
        return begin_loading(executor, file, choose(file, "openvino", "cpu", threads))()


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


@pytest.mark.parametrize(
    "what", ["get_version", "__version__", "FULL_DEVICE_NAME", "OPTIMIZATION_CAPABILITIES", "outputs"]
)
def test_what_another_version_or_processor_compiled_is_compiled_again(
    what: str, engine: Path, compilations: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(engine).close()
    match what:
        case "get_version":
            monkeypatch.setattr(openvino, "get_version", lambda: "2020.1")
        case "__version__":
            monkeypatch.setattr(openvino_cache, "__version__", "99")
        case "outputs":
            wanted = [*wanted_outputs(features=True, probability=False)]
            monkeypatch.setattr(openvino_engine, "wanted_outputs", lambda **asked: wanted)
        case _:

            class Other(openvino.Core):  # type: ignore[misc]
                def get_property(self, device: str, name: str) -> Any:
                    return "another" if name == what else super().get_property(device, name)

            monkeypatch.setattr(openvino, "Core", Other)
    opened(engine).close()
    assert len(compilations) == 2


def test_other_threads_are_compiled_and_kept_instead(engine: Path, compilations: list[Path]) -> None:
    for threads, expected in ((1, 1), (2, 2), (2, 2)):
        opened(engine, threads).close()
        assert len(compilations) == expected


def test_what_compiles_quickly_is_not_kept(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_cache, "_WORTH_SECONDS_PER_BYTE", 1e6)
    opened(engine).close()
    assert [path.name for path in engine.parent.iterdir()] == ["bagged.onnx"]


def test_what_tune_and_others_open_is_taken_but_never_kept(engine: Path, compilations: list[Path]) -> None:
    open_engine(engine, 1, runtime="openvino").close()
    assert [path.name for path in engine.parent.iterdir()] == ["bagged.onnx"]
    opened(engine).close()
    open_engine(engine, 1, runtime="openvino").close()
    assert len(compilations) == 2


def test_an_engine_replaced_while_it_is_compiled_is_not_kept_under_the_new_name(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compile_ = openvino_engine._compile

    def replaced(path: Path, *arguments: Any) -> Any:
        found = compile_(path, *arguments)
        write_threshold_engine(path, thresholds=((0.1,), (0.1,)))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(openvino_engine, "_compile", replaced)
        before = labels(engine)
    assert [path.name for path in engine.parent.iterdir()] == ["bagged.onnx"]
    assert not np.array_equal(labels(engine), before)


def test_a_network_that_becomes_no_engine_is_not_kept(engine: Path, compilations: list[Path]) -> None:
    with ThreadPoolExecutor(1) as executor:
        begin_loading(executor, EngineFile(engine), choose(engine, "openvino", "cpu", 1))
    assert compilations == [engine]
    assert [path.name for path in engine.parent.iterdir()] == ["bagged.onnx"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_named_pipe_in_its_place_is_not_waited_for(engine: Path) -> None:
    os.mkfifo(engine.with_name("bagged.onnx.openvino"))
    opened(engine).close()


def test_what_a_killed_start_left_is_cleared_away(engine: Path) -> None:
    engine.with_name("bagged.onnx.openvino.123.part").write_bytes(b"half")
    opened(engine).close()
    assert {path.name for path in engine.parent.iterdir()} == {"bagged.onnx", "bagged.onnx.openvino"}


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"x" + data[-8:], lambda data: b""]
)
def test_a_damaged_file_is_replaced(
    engine: Path, compilations: list[Path], damage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = labels(engine)
    place = engine.with_name("bagged.onnx.openvino")
    whole = place.read_bytes()
    place.write_bytes(damage(whole))
    with monkeypatch.context() as patched:
        patched.setattr(openvino.Core, "import_model", lambda *arguments: pytest.fail("a damaged network was loaded"))
        assert np.array_equal(labels(engine), wanted)
    assert len(compilations) == 2
    assert np.array_equal(labels(engine), wanted) and len(compilations) == 2


def test_a_folder_that_cannot_be_written_costs_time_only(
    engine: Path, compilations: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert np.array_equal(labels(engine), labels(engine))
    assert len(compilations) == 2


def test_converters_are_not_loaded_and_can_still_be_imported() -> None:
    said = "import sys; import microseg.runtime.openvino.engine; assert 'openvino.tools.ovc' not in sys.modules; "
    subprocess.run([sys.executable, "-c", said + "import openvino.tools.ovc"], check=True)
