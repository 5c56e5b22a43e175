"""Fields through an engine by three threads: one reads and cuts tiles, one computes, one writes results.

Tiles of several fields share a batch. Queues between the threads are bounded, so that memory depends neither on the number of
fields nor on the size of one field.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.folders import readable
from microseg.core.preparation.tiling import Tile, extract
from microseg.deploy.pipeline.calls import Calls, Result, Waiting
from microseg.deploy.pipeline.channel import Budget, Channel, Stop, Stopped
from microseg.deploy.pipeline.field_task import (
    EndOfField,
    FailedSource,
    FieldTask,
    Flush,
    TileLabels,
    TilePixels,
    reason,
)
from microseg.deploy.pipeline.tile_memory import TileLimits
from microseg.runtime import Engine

_QUEUED_TILES = 4
_BYTES_UNDER_WAY = 256 << 20

Source = TypeVar("Source", contravariant=True)
AnySource = TypeVar("AnySource")


class FieldSink(Protocol[Source]):
    """Opens fields and takes their results: a report on disk, or arrays in memory."""

    def open(self, source: Source) -> FieldTask | FailedSource | None:
        """A field ready to be cut into tiles, the reason why it fails, or None where its result exists already."""
        ...

    def measure(self, task: FieldTask, tiles: Iterator[TileLabels]) -> None:
        """Take all tiles of a field, in the order of its plan. Raises FieldError where the field fails."""
        ...

    def fail(self, name: str, reason: str) -> None:
        """Take a field that fails, and the reason."""
        ...


@dataclass
class FieldPipeline(Generic[AnySource]):
    """Computes fields one after another; `sink` gets their results in order.

    Attributes:
        sources: the fields; taken one by one by the reading thread.
        sink: opens each field and takes its results.
        limits: tiles under way at once and their size.
        open_engine: called once, when the first tile is ready.
        on_advance: gets fractions of a field, 1.0 in all for each field.
        stop: ends the pipeline from outside when it is set.
        with_features: whether the sink gets pixels and features of each tile, for an alarm.
    """

    sources: Iterable[AnySource]
    sink: FieldSink[AnySource]
    limits: TileLimits
    open_engine: Callable[[], Engine]
    on_advance: Callable[[float], None] = lambda amount: None
    stop: Stop = field(default_factory=Stop)
    with_features: bool = False

    def run(self) -> None:
        """Compute every field. It returns when the sink has all results, or when `stop` is set without an error.

        Raises:
            InputError: the sink cannot write, or the engine does not open. Finished fields are complete.
            KeyboardInterrupt: as InputError.
        """
        stop = self.stop
        tiles: Channel[Waiting | Flush] = Channel(_QUEUED_TILES, stop)
        results: Channel[Result] = Channel(_QUEUED_TILES, stop)
        budget = Budget(_BYTES_UNDER_WAY, stop)
        threads = [
            _thread(stop, tiles, lambda: self._read(tiles, budget)),
            _thread(stop, None, lambda: self._write(results, budget)),
        ]
        for thread in threads:
            thread.start()
        try:
            self._compute(tiles, results, stop)
            results.close()
            threads[1].join()
        except Stopped:
            pass
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        if stop.error is not None:
            raise stop.error

    def _read(self, tiles: Channel[Waiting | Flush], budget: Budget) -> None:
        for source in self.sources:
            task = self.sink.open(source)
            if task is None:
                self.on_advance(1.0)
                continue
            if isinstance(task, FailedSource):
                tiles.put(task)
                continue
            if not budget.has_room(task.cost):
                tiles.put(Flush())
            budget.take(task.cost)
            try:
                for tile, pixels in _cut(task):
                    tiles.put(TilePixels(task, tile, pixels))
                    if task.error:
                        break
            except (FieldError, OSError) as error:
                task.error = task.error or reason(task.prepared.path, error)
            tiles.put(EndOfField(task))

    def _compute(self, tiles: Channel[Waiting | Flush], results: Channel[Result], stop: Stop) -> None:
        engine: Engine | None = None
        waiting: list[Waiting] = []
        with Calls(self.limits.streams, results, stop, self.with_features) as calls:
            for item in tiles.each(calls.is_first_over, calls.pass_on):
                first = next((other for other in waiting if isinstance(other, TilePixels)), None)
                is_other_shape = first and isinstance(item, TilePixels) and item.pixels.shape != first.pixels.shape
                if is_other_shape or isinstance(item, Flush):
                    calls.begin(engine, waiting)
                    waiting = []
                if isinstance(item, Flush):
                    calls.end()
                    continue
                waiting.append(item)
                if isinstance(item, TilePixels) and engine is None:
                    engine = self.open_engine()
                count = sum(isinstance(other, TilePixels) for other in waiting)
                if count == 0 or count >= self._batch_for(waiting):
                    calls.begin(engine, waiting)
                    waiting = []
            calls.begin(engine, waiting)
            calls.end()

    def _batch_for(self, waiting: list[Waiting]) -> int:
        """Tiles of this shape that run together in a call, within the memory limit of a stream."""
        size = next(item.pixels.size for item in waiting if isinstance(item, TilePixels))
        return max(1, min(self.limits.batch // self.limits.streams, self.limits.max_tile_pixels // size))

    def _write(self, results: Channel[Result], budget: Budget) -> None:
        items = iter(results)
        for first in items:
            if isinstance(first, FailedSource):
                self.sink.fail(first.name, first.reason)
                self.on_advance(1.0)
            else:
                self._measure(first, items, budget)

    def _measure(self, first: TileLabels | EndOfField, items: Iterator[Result], budget: Budget) -> None:
        """Hand the results of one field, up to its end, to the sink."""
        task = first.task
        count = 0

        def tiles_of_field() -> Iterator[TileLabels]:
            nonlocal count
            item: Result = first
            while isinstance(item, TileLabels):
                yield item
                count += 1
                self.on_advance(1 / len(task.tiles))
                item = next(items)

        with ExitStack() as stack:
            stack.callback(budget.give_back, task.cost)
            stack.callback(task.prepared.close)
            tiles = tiles_of_field()
            try:
                self.sink.measure(task, tiles)
                return
            except FieldError as error:
                task.error = task.error or str(error)
                failure = readable(str(error))
            for _ in tiles:  # the reader may still cut this field, until it has put its end
                pass
            if count < len(task.tiles):
                self.on_advance(1 - count / len(task.tiles))
        self.sink.fail(task.name, failure)


def _cut(task: FieldTask) -> Iterator[tuple[Tile, NDArray[np.uint8]]]:
    """The tiles of a field with their pixels. Tiles side by side share rows, so a row is prepared once a band."""
    height, width = task.prepared.shape
    window = (0, 0)
    block: NDArray[np.uint8] = np.empty((0, width), np.uint8)

    def rows(start: int, stop: int) -> NDArray[np.uint8]:
        nonlocal window, block
        if not (window[0] <= start and stop <= window[1]):
            block = np.empty((0, width), np.uint8)  # never two windows at once
            with task.reading:
                window, block = (start, stop), task.prepared.rows(start, stop)
        return block[start - window[0] : stop - window[0]]

    for tile in task.tiles:
        yield tile, extract(rows, tile, height, width)


def _thread(stop: Stop, output: Channel[Waiting | Flush] | None, work: Callable[[], None]) -> threading.Thread:
    """A thread whose end closes `output` and whose error ends the pipeline."""

    def run() -> None:
        try:
            work()
            if output is not None:
                output.close()
        except Stopped:
            pass
        except BaseException as error:
            stop.set(error)

    return threading.Thread(target=run, daemon=True)
