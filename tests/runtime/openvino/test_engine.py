"""OpenVINO says what ONNX Runtime says, for any shape, in memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError
from microseg.core.schemas.keys import METADATA_KEY
from microseg.runtime import open_engine, read_manifest
from microseg.runtime.openvino.engine import OpenVinoEngine
from tests.engines import write_threshold_engine, write_with_metadata

SHAPES = [(1, 24, 32), (1, 64, 48), (3, 24, 32), (2, 8, 8), (1, 24, 32)]


def tiles(count: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height + width).integers(0, 256, (count, 1, height, width), np.uint8)


def test_thresholds_in_every_shape(tiny_engine: Path) -> None:
    with open_engine(tiny_engine, 1) as ours, open_engine(tiny_engine, 1, runtime="openvino") as theirs:
        assert theirs.provider == "CPU" and theirs.version[:2] == "20" and theirs.config.runtime == "openvino"
        for shape in SHAPES:
            pixels = tiles(*shape)
            a, b = ours.run(pixels, probability=True), theirs.run(pixels)
            assert b.labels.dtype == b.votes.dtype == np.uint8
            assert b.labels.shape == shape and b.votes.shape == (shape[0], 2, *shape[1:])
            assert a.probability is not None and b.probability is None
            clear = np.abs(a.probability[:, 0] - 0.5) > 1e-4
            assert np.array_equal(a.labels[clear], b.labels[clear])
        assert theirs.runs == len(SHAPES)


def test_features_and_probability_on_demand(tiny_engine: Path) -> None:
    with open_engine(tiny_engine, 1) as ours, open_engine(tiny_engine, 1, runtime="openvino") as theirs:
        pixels = tiles(2, 24, 32)
        bare = theirs.run(pixels)
        a = ours.run(pixels, features=True, probability=True)
        b = theirs.run(pixels, features=True, probability=True)
        assert a.features is not None and b.features is not None and np.allclose(a.features, b.features, atol=1e-5)
        assert a.probability is not None and b.probability is not None
        assert np.allclose(a.probability, b.probability, atol=1e-4)
        assert np.array_equal(bare.labels, b.labels)
        again = theirs.run(pixels)
        assert again.probability is None and np.array_equal(bare.votes, again.votes)


def test_streams_share_a_batch_and_change_nothing(tiny_engine: Path) -> None:
    with (
        open_engine(tiny_engine, 2, runtime="openvino") as single,
        open_engine(tiny_engine, 2, runtime="openvino", streams=2) as several,
    ):
        assert several.config.streams == 2
        for count, features in ((1, False), (2, False), (5, False), (3, True), (2, False)):
            pixels = tiles(count, 24, 32)
            before = pixels.copy()
            wanted, found = (engine.run(pixels, features=features) for engine in (single, several))
            assert np.array_equal(found.labels, wanted.labels) and np.array_equal(found.votes, wanted.votes)
            assert np.array_equal(pixels, before) and (found.features is None) != features
            assert not features or np.allclose(found.features, wanted.features, atol=1e-5)  # type: ignore[arg-type]


def test_a_stream_that_fails_leaves_none_busy(tiny_engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing:
        def __init__(self, request: Any) -> None:
            self.request = request

        def start_async(self, inputs: Any, share_inputs: bool) -> None:
            self.request.start_async(inputs, share_inputs=share_inputs)

        def wait(self) -> None:
            self.request.wait()
            raise RuntimeError("out of memory")

    with open_engine(tiny_engine, 2, runtime="openvino", streams=2) as engine:
        assert isinstance(engine, OpenVinoEngine)
        pixels = tiles(2, 24, 32)
        wanted = engine.run(pixels).labels
        assert engine._idle is not None
        first, second = engine._idle
        engine._idle[:] = [first, Failing(second)]
        with pytest.raises(FieldError, match="out of memory"):
            engine.run(pixels)
        assert len(engine._idle) == 2
        engine._idle[:] = [first, second]
        assert np.array_equal(engine.run(pixels).labels, wanted)


def test_calls_from_several_threads_share_the_streams(tiny_engine: Path) -> None:
    with (
        open_engine(tiny_engine, 2, runtime="openvino") as single,
        open_engine(tiny_engine, 2, runtime="openvino", streams=2) as several,
        ThreadPoolExecutor(4) as pool,
    ):
        given = [np.roll(tiles(1 + number % 3, 24, 32), number, 3) for number in range(24)]
        asks = [number % 5 == 0 for number in range(24)]  # compiled anew, between calls of others
        found = pool.map(lambda pixels, features: several.run(pixels, features=features), given, asks)
        for pixels, features, out in zip(given, asks, found, strict=True):
            assert np.array_equal(out.votes, single.run(pixels).votes) and (out.features is None) != features
        assert several.runs == 24


def test_outputs_that_could_not_be_compiled_in_are_not_taken_for_there(
    tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*arguments: Any) -> None:
        raise RuntimeError("no memory")

    with open_engine(tiny_engine, 2, runtime="openvino", streams=2) as engine:
        with monkeypatch.context() as patch:
            patch.setattr("microseg.runtime.openvino.engine._compile", fails)
            with pytest.raises(FieldError, match="no memory"):
                engine.run(tiles(1, 24, 32), features=True)
        assert engine.run(tiles(1, 24, 32)).features is None
        assert engine.run(tiles(1, 24, 32), features=True).features is not None


_FIRST_CALLS = """
import sys
import numpy as np
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from microseg.runtime import open_engine
engine = open_engine(Path(sys.argv[1]), 2, runtime="openvino", streams=2)
sys.setswitchinterval(1e-6)
with ThreadPoolExecutor(2) as pool:
    print(len(list(pool.map(lambda number: engine.run(np.zeros((1, 1, 24, 32), np.uint8)), range(4)))))
"""


def test_first_calls_from_two_threads_at_once_do_not_wait_for_each_other_forever(tiny_engine: Path) -> None:
    """In processes of their own, for only the first calls of one can; half of them did."""
    for _ in range(4):
        command = [sys.executable, "-c", _FIRST_CALLS, str(tiny_engine)]
        assert subprocess.run(command, timeout=60, capture_output=True, text=True, check=True).stdout == "4\n"


def test_an_engine_that_was_closed_says_so(tiny_engine: Path) -> None:
    with open_engine(tiny_engine, 1, runtime="openvino") as engine:
        pass
    with pytest.raises(FieldError, match="the engine is closed"):
        engine.run(tiles(1, 24, 32))


def test_what_one_call_gave_the_next_leaves_alone(tiny_engine: Path) -> None:
    with open_engine(tiny_engine, 1, runtime="openvino") as engine:
        first = engine.run(np.zeros((1, 1, 16, 16), np.uint8)).labels
        engine.run(np.full((1, 1, 16, 16), 255, np.uint8))
        assert not first.any()


def test_a_real_network(exported: Path) -> None:
    """Labels and fractions of a trained U-Net within what float32 allows."""
    with open_engine(exported, 1) as ours, open_engine(exported, 1, runtime="openvino") as theirs:
        for shape in ((1, 104, 120), (2, 40, 24)):
            pixels = tiles(*shape)
            a, b = (
                ours.run(pixels, features=True, probability=True),
                theirs.run(pixels, features=True, probability=True),
            )
            assert (a.labels != b.labels).mean() <= 2e-4 and (a.votes != b.votes).mean() <= 2e-4
            assert abs(a.labels.mean() - b.labels.mean()) <= 1e-4
            assert a.probability is not None and b.probability is not None
            assert np.allclose(a.probability, b.probability, atol=1e-3)
            assert a.features is not None and b.features is not None and np.allclose(a.features, b.features, atol=1e-2)


def test_a_graph_that_is_no_engine(tiny_engine: Path, tmp_path: Path) -> None:
    text = read_manifest(tiny_engine).model_dump_json()
    model = onnx.load(tiny_engine)
    del model.graph.output[1]
    path = write_with_metadata(tmp_path / "a.onnx", model, {METADATA_KEY: text})
    with pytest.raises(InputError, match="lacks the outputs"):
        open_engine(path, 1, runtime="openvino")
    model = onnx.load(tiny_engine)
    model.graph.node[1].op_type = "NoSuchOperator"
    path = write_with_metadata(tmp_path / "b.onnx", model, {METADATA_KEY: text})
    with pytest.raises(InputError, match="OpenVINO cannot load it"):
        open_engine(path, 1, runtime="openvino")


def test_a_call_that_fails_names_the_file(tiny_engine: Path) -> None:
    with open_engine(tiny_engine, 1, runtime="openvino") as engine, pytest.raises(FieldError, match=r"tiny\.onnx"):
        engine.run(np.zeros((1, 3, 16, 16), np.uint8))


MEMORY = """
import sys
from pathlib import Path
import numpy as np
from microseg.export.memory_footprint import peak_resident_bytes
from microseg.runtime import open_engine
engine = open_engine(Path(sys.argv[1]), 1, runtime="openvino")
shapes = [(256 + 8 * k, 512 - 8 * k) for k in range(6)]
marks = []
for _ in range(30):
    for shape in shapes:
        engine.run(np.zeros((1, 1, *shape), np.uint8))
    marks.append(peak_resident_bytes())
print(marks[4], marks[-1])
"""


def test_memory_is_flat(tmp_path: Path) -> None:
    engine = write_threshold_engine(tmp_path / "e.onnx")
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, str(engine)], capture_output=True, text=True, check=True, encoding="utf-8"
    )
    early, late = map(int, done.stdout.split())
    assert late - early < 8e6
