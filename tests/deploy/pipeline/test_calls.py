"""Calls of an engine side by side: every result is passed on once and in order, however long each call takes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.tiling import Tile
from microseg.deploy.pipeline.calls import Calls, Result, Waiting
from microseg.deploy.pipeline.channel import Channel, Stop, Stopped
from microseg.deploy.pipeline.field_task import EndOfField, FailedSource, FieldTask, TileLabels, TilePixels
from microseg.runtime import Engine, EngineOutput
from tests.deploy.pipeline.threads import DELAYS, pauses, property_test, run_together

# Tiles of each field, None for a field that cannot be opened.
FIELDS = st.lists(st.none() | st.integers(0, 5), max_size=6)
STREAMS = st.integers(1, 4)


@dataclass
class CountingEngine:
    """Returns each tile as its own labels, in two folds. `events` are called, and may raise, at the calls of their number."""

    delays: Sequence[float] = (0.0,)
    events: dict[int, Callable[[], None]] = field(default_factory=dict)
    calls: int = 0
    running: int = 0
    most_running: int = 0
    lost: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, tiles: NDArray[np.uint8]) -> EngineOutput:
        """What the protocol asks for."""
        with self.lock:
            index = self.calls
            self.calls += 1
            self.running += 1
            self.most_running = max(self.most_running, self.running)
        try:
            for _ in zip(range(1 + index % 3), pauses(self.delays), strict=False):
                pass
            try:
                self.events.get(index, _nothing)()
            except Exception:
                self.lost |= {int(value) for value in tiles[:, 0, 0, 0]}
                raise
            return EngineOutput(labels=tiles[:, 0], votes=np.repeat(tiles, 2, 1))
        finally:
            with self.lock:
                self.running -= 1


def items_of(fields: Sequence[int | None]) -> list[Waiting]:
    """The tiles of some fields and their ends, as the reader sends them; every tile has a value of its own."""
    items: list[Waiting] = []
    value = 0
    for index, count in enumerate(fields):
        if count is None:
            items.append(FailedSource(f"field {index}", "cannot be read"))
            continue
        task = FieldTask(f"field {index}", cast(Any, None), [], 0)
        for _ in range(count):
            items.append(TilePixels(task, cast(Tile, None), np.full((2, 3), value, np.uint8)))
            value += 1
        items.append(EndOfField(task))
    return items


class Driven(NamedTuple):
    """What came out, what reader, caller and writer raised, and the most tiles between reader and writer."""

    passed: list[Result]
    raised: list[BaseException | None]
    most_held: int


def drive(
    items: Iterable[Waiting],
    engine: CountingEngine,
    *,
    streams: int,
    batch: int,
    read: Sequence[float],
    write: Sequence[float],
    stop: Stop | None = None,
    on_passed: Callable[[Result], None] = lambda item: None,
) -> Driven:
    """Send items through `Calls` as the pipeline does."""
    stop = stop or Stop()
    tiles: Channel[Waiting] = Channel(2, stop)
    results: Channel[Result] = Channel(2, stop)
    passed: list[Result] = []
    most_held = 0

    def reads() -> None:
        for item, _ in zip(items, pauses(read), strict=False):
            tiles.put(item)
        tiles.close()

    def calls_engine() -> None:
        nonlocal most_held
        begun, waiting = 0, list[Waiting]()
        try:
            with Calls(streams, results, stop) as calls:
                for item in tiles.each(calls.is_first_over, calls.pass_on):
                    waiting.append(item)
                    count = sum(isinstance(other, TilePixels) for other in waiting)
                    if count in (0, batch):
                        calls.begin(cast(Engine, engine), waiting)
                        begun, waiting = begun + count, []
                        most_held = max(most_held, begun - sum(isinstance(p, TileLabels) for p in passed))
                calls.begin(cast(Engine, engine), waiting)
                calls.end()
            results.close()
        except BaseException as error:
            stop.set(error)
            raise

    def writes() -> None:
        for item, _ in zip(results, pauses(write), strict=False):
            passed.append(item)
            on_passed(item)

    raised = run_together(reads, calls_engine, writes)
    assert engine.running == 0, "no call is left under way"
    assert engine.most_running <= streams
    return Driven(passed, raised, most_held)


@property_test
@given(fields=FIELDS, streams=STREAMS, batch=st.integers(1, 4), run=DELAYS, read=DELAYS, write=DELAYS)
def test_every_result_is_passed_on_once_and_in_order(
    fields: list[int | None], streams: int, batch: int, run: list[float], read: list[float], write: list[float]
) -> None:
    items = items_of(fields)
    passed, raised, most_held = drive(items, CountingEngine(run), streams=streams, batch=batch, read=read, write=write)
    assert raised == [None] * 3
    assert [_key(item) for item in passed] == [_key(item) for item in items]
    assert most_held <= streams * batch + 3, "a call for each stream, and what the writer holds and waits for"
    assert all((item.votes == item.labels).all() for item in passed if isinstance(item, TileLabels))


@settings(max_examples=10, deadline=None)
@given(streams=st.integers(2, 4), tiles=st.integers(1, 3), run=DELAYS)
def test_a_slow_reader_holds_no_result_back(streams: int, tiles: int, run: list[float]) -> None:
    """The second field is read once the first has come out."""
    items = items_of([tiles, tiles])
    is_out = threading.Event()
    waited: list[bool] = []

    def slow() -> Iterator[Waiting]:
        for index, item in enumerate(items):
            if index == tiles + 1:
                waited.append(is_out.wait(20))
            yield item

    def on_end(item: Result) -> None:
        if isinstance(item, EndOfField):
            is_out.set()

    passed, raised, _ = drive(
        slow(), CountingEngine(run), streams=streams, batch=1, read=[0.0], write=[0.0], on_passed=on_end
    )
    assert raised == [None] * 3
    assert waited == [True]
    assert len(passed) == len(items)


@property_test
@given(
    fields=FIELDS, streams=STREAMS, batch=st.integers(1, 4), failing=st.sets(st.integers(0, 8)),
    run=DELAYS, read=DELAYS, write=DELAYS,
)  # fmt: skip
def test_a_call_that_fails_loses_the_fields_of_its_tiles_alone(
    fields: list[int | None], streams: int, batch: int, failing: set[int], run: list[float], read: list[float],
    write: list[float],
) -> None:  # fmt: skip
    items = items_of(fields)
    engine = CountingEngine(run, {index: partial(_fail, FieldError(f"call {index}")) for index in failing})
    passed, raised, _ = drive(items, engine, streams=streams, batch=batch, read=read, write=write)
    assert raised == [None] * 3
    failed = {_key(item)[0] for item in items if isinstance(item, TilePixels) and int(item.pixels[0, 0]) in engine.lost}
    assert {item.task.name for item in items if isinstance(item, EndOfField) and item.task.error} == failed
    sound = [_key(item) for item in items if _key(item)[0] not in failed]
    assert [_key(item) for item in passed if _key(item)[0] not in failed] == sound, "other fields are complete"
    ends = [_key(item) for item in items if not isinstance(item, TilePixels)]
    assert [_key(item) for item in passed if not isinstance(item, TileLabels)] == ends, "every field ends once"
    order = {_key(item): index for index, item in enumerate(items)}
    places = [order[_key(item)] for item in passed]
    assert places == sorted(set(places)), "nothing twice, nothing out of order"


@property_test
@given(
    streams=STREAMS, batch=st.integers(1, 3), at=st.integers(0, 3), run=DELAYS, read=DELAYS, write=DELAYS,
)  # fmt: skip
def test_another_error_ends_the_pipeline_after_the_calls_under_way(
    streams: int, batch: int, at: int, run: list[float], read: list[float], write: list[float]
) -> None:
    items = items_of([4, 4, 4])
    error = InputError("the engine is gone")
    stop = Stop()
    passed, raised, _ = drive(
        items,
        CountingEngine(run, {at: partial(_fail, error)}),
        streams=streams,
        batch=batch,
        read=read,
        write=write,
        stop=stop,
    )
    assert raised[1] is error and stop.error is error
    assert [_key(item) for item in passed] == [_key(item) for item in items[: len(passed)]]


@property_test
@given(streams=STREAMS, batch=st.integers(1, 3), at=st.integers(0, 5), run=DELAYS, read=DELAYS, write=DELAYS)
def test_a_stop_waits_for_the_calls_under_way(
    streams: int, batch: int, at: int, run: list[float], read: list[float], write: list[float]
) -> None:
    items, stop = items_of([5] * 20), Stop()
    engine = CountingEngine(run, {at: stop.set})
    passed, raised, _ = drive(items, engine, streams=streams, batch=batch, read=read, write=write, stop=stop)
    assert [type(error) for error in raised] == [Stopped] * 3
    assert engine.calls <= at + 1 + 2 * streams, "no call begins after the stop but those that waited for a stream"
    assert [_key(item) for item in passed] == [_key(item) for item in items[: len(passed)]]


def _nothing() -> None:
    pass


def _fail(error: Exception) -> None:
    raise error


def _key(item: Waiting | Result) -> tuple[str, int | None]:
    """The field of an item and the value of its tile, None for an end."""
    if isinstance(item, FailedSource):
        return item.name, None
    if isinstance(item, EndOfField):
        return item.task.name, None
    values = item.pixels if isinstance(item, TilePixels) else item.labels
    return item.task.name, int(values[0, 0])
