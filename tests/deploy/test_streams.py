"""`segment` with tiles side by side, as processors compute them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import FieldError
from microseg.deploy.pipeline.inputs import InputField
from microseg.deploy.pipeline.tile_memory import side_by_side
from microseg.deploy.report.report_sink import ReportSink
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.runtime import EngineFile, Runtime, RuntimeConfig
from microseg.runtime.onnx_engine import OnnxEngine
from microseg.runtime.openvino.engine import OpenVinoEngine
from tests.deploy.test_segment import content_of, rows_of
from tests.engines import write_threshold_engine

Wafer = Callable[..., Path]
TWO = RuntimeConfig("openvino", "cpu", 2)


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One whose streams have tiles of a few thousand pixels with 465 MB."""
    monkeypatch.setattr("microseg.deploy.pipeline.tile_memory._SMALLEST_DEFAULT_TILE_PX", 4000)
    return write_threshold_engine(tmp_path / "e.onnx", bytes_per_pixel=1000)


def _options(folder: Path, engine: Path, **changes: Any) -> SegmentOptions:
    given = SegmentOptions(folder, engine, memory_mb=465, threads=2, runtime="openvino", use_profile=False)
    return replace(given, **changes)


def test_two_streams_are_taken_where_memory_and_threads_allow_it(engine: Path) -> None:
    file = EngineFile(engine)
    assert side_by_side(file, TWO, 465) == replace(TWO, streams=2) == side_by_side(file, TWO, None)
    assert side_by_side(file, TWO, 455) == TWO
    assert side_by_side(file, replace(TWO, runtime="onnxruntime"), None).streams == 2
    for other in (replace(TWO, threads=3), replace(TWO, threads=None), RuntimeConfig("onnxruntime", "cuda", 2)):
        assert side_by_side(file, other, None) == other
    of_a_profile = replace(TWO, threads=8, streams=4)
    assert side_by_side(file, of_a_profile, None) == of_a_profile


@pytest.mark.parametrize("batch", [None, 4])
@pytest.mark.parametrize(("runtime", "kind"), [("onnxruntime", OnnxEngine), ("openvino", OpenVinoEngine)])
def test_fields_measured_side_by_side_are_as_one_by_one(
    wafer: Wafer,
    engine: Path,
    tmp_path: Path,
    runtime: Runtime,
    kind: type[OnnxEngine | OpenVinoEngine],
    batch: int | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = wafer(4, (300, 100))
    Image.fromarray(np.arange(80 * 90, dtype=np.uint32).astype(np.uint8).reshape(80, 90)).save(folder / "field2b.png")
    begun, running, most, run = 0, 0, 0, kind.run
    change, together = threading.Lock(), threading.Barrier(2, timeout=20)

    def counted(self: Any, tiles: NDArray[np.uint8], **options: Any) -> Any:
        nonlocal begun, running, most
        with change:
            begun += 1
            running += 1
            most = max(most, running)
            meets = self.config.streams == 2 and begun <= 2
        if meets:
            together.wait()  # the first two calls are under way at once, or this breaks
        try:
            return run(self, tiles, **options)
        finally:
            with change:
                running -= 1

    monkeypatch.setattr(kind, "run", counted)
    two = segment(_options(folder, engine, out=tmp_path / "two", batch=batch, runtime=runtime))
    assert most == 2 and two.summary["engine_calls"] >= (5 if batch else 9)
    most = 0
    one = segment(_options(folder, engine, out=tmp_path / "one", threads=1, runtime=runtime))
    assert most == 1
    assert two.summary["settings"] == one.summary["settings"], "a report goes on with any number of threads"
    assert (two.summary["run"]["streams"], one.summary["run"]["streams"]) == (2, 1)
    assert two.summary["phases"] == one.summary["phases"] and rows_of(two.report) == rows_of(one.report)
    pictures = [
        {name: data for name, data in content_of(at.report).items() if name.startswith(("masks", "overlays"))}
        for at in (one, two)
    ]
    assert len(pictures[0]) == 10 and pictures[0] == pictures[1]


def test_a_call_that_fails_fails_its_field_alone(wafer: Wafer, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, change, calls = OpenVinoEngine.run, threading.Lock(), 0

    def fails_once(self: OpenVinoEngine, tiles: NDArray[np.uint8], **options: Any) -> Any:
        nonlocal calls
        with change:
            calls += 1
            mine = calls
        if mine == 1:
            raise FieldError("out of memory")
        return run(self, tiles, **options)

    monkeypatch.setattr(OpenVinoEngine, "run", fails_once)
    result = segment(_options(wafer(4, (300, 100)), engine))
    assert result.summary["failed"] == [{"field": "field0.png", "reason": "out of memory"}]
    assert result.summary["fields"]["measured"] == 3
    assert not (result.report / "masks" / "field0.png.png").exists() and not list(result.report.rglob("*.part"))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_slow_reader_holds_no_finished_field_back(
    wafer: Wafer, engine: Path, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = wafer(4, (300, 100))
    read = ReportSink.open
    written: list[bool] = []

    def slow(self: ReportSink, source: InputField) -> Any:
        if source.name == "field2.png":
            end = time.monotonic() + 20
            while not (done := (self._report / "masks" / "field1.png.png").exists()) and time.monotonic() < end:
                time.sleep(0.01)
            written.append(done)
        return read(self, source)

    monkeypatch.setattr(ReportSink, "open", slow)
    result = segment(_options(folder, engine, threads=threads))
    assert written == [True] and result.summary["fields"]["measured"] == 4


def test_an_interruption_waits_for_the_calls_under_way(
    wafer: Wafer, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(amount: float) -> None:
        raise KeyboardInterrupt

    before = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        segment(_options(wafer(4, (300, 100)), engine), on_advance=interrupted)
    begun = set(threading.enumerate()) - before
    assert not [thread for thread in begun if thread.name.startswith("ThreadPoolExecutor")]
    assert segment(_options(next(engine.parent.glob("wafer_dir")), engine)).summary["fields"]["measured"] == 4


def test_small_memory_for_fields_under_way_ends_no_run(
    wafer: Wafer, engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microseg.deploy.pipeline.field_pipeline._BYTES_UNDER_WAY", 1)
    assert segment(_options(wafer(5), engine, batch=6)).summary["fields"]["measured"] == 5
