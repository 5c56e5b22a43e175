"""Concurrent calls of an engine whose results come in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from microseg.core.errors import FieldError
from microseg.core.images.folders import readable
from microseg.core.system.files import Closing
from microseg.deploy.pipeline.channel import Channel, Stop
from microseg.deploy.pipeline.field_task import EndOfField, FailedSource, TileLabels, TilePixels
from microseg.runtime import Engine, EngineOutput

Waiting = TilePixels | EndOfField | FailedSource
Result = TileLabels | EndOfField | FailedSource


@dataclass(frozen=True)
class _Call:
    """One call of the engine.

    Attributes:
        items: the items of the call in order.
        batch: the tiles among them that the engine computes.
        answer: waits for the engine's output; None without tiles.
        is_over: whether `answer` returns at once.
    """

    items: list[Waiting]
    batch: list[TilePixels]
    answer: Callable[[], EngineOutput] | None
    is_over: Callable[[], bool]


class Calls(Closing):
    """Calls of an engine under way: one for each stream, and one that waits for a stream. Results are passed on in order.

    With a single stream each call runs in the calling thread.
    """

    def __init__(self, streams: int, results: Channel[Result], stop: Stop, with_features: bool = False) -> None:
        """Args:
        streams: calls under way at once.
        results: takes the results.
        stop: of the pipeline.
        with_features: whether tiles are passed on with their pixels and features.
        """
        self._pool = ThreadPoolExecutor(streams) if streams > 1 else None
        self._most = streams if streams > 1 else 0
        self._results = results
        self._stop = stop
        self._options = {"features": True} if with_features else {}
        self._under_way: deque[_Call] = deque()

    def begin(self, engine: Engine | None, items: list[Waiting]) -> None:
        """Begin a call with the tiles among the items. Earlier calls are passed on where too many are under way."""
        batch = [item for item in items if isinstance(item, TilePixels) and not item.task.error]
        answer: Callable[[], EngineOutput] | None = None
        is_over = _always
        if batch and engine is not None:
            answer = partial(engine.run, np.stack([item.pixels for item in batch])[:, None], **self._options)
            if self._pool is not None:
                future = self._pool.submit(answer)
                answer, is_over = future.result, future.done
                future.add_done_callback(lambda _: self._stop.wake())
        self._under_way.append(_Call(items, batch, answer, is_over))
        while self._under_way and (self._under_way[0].answer is None or self._count() > self._most):
            self.pass_on()

    def is_first_over(self) -> bool:
        """Whether `pass_on` returns without waiting. The pipeline's `stop` is woken when this may have changed."""
        return bool(self._under_way) and self._under_way[0].is_over()

    def end(self) -> None:
        """Wait for all calls and pass on their results."""
        while self._under_way:
            self.pass_on()

    def close(self) -> None:
        """Wait for the calls that have begun and ignore their results."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def _count(self) -> int:
        return sum(call.answer is not None for call in self._under_way)

    def pass_on(self) -> None:
        """Wait for the first call and pass on its items, tiles with their labels."""
        call = self._under_way.popleft()
        found: dict[int, TileLabels] = {}
        if call.answer is not None:
            try:
                output = call.answer()
            except FieldError as error:
                for item in call.batch:
                    item.task.error = item.task.error or readable(str(error))
            else:
                for index, item in enumerate(call.batch):
                    labels, votes = output.labels[index], output.votes[index]
                    if output.features is None:
                        found[id(item)] = TileLabels(item.task, item.tile, labels, votes)
                    else:
                        features = output.features[index]
                        found[id(item)] = TileLabels(item.task, item.tile, labels, votes, item.pixels, features)
        for passed in call.items:
            if isinstance(passed, EndOfField | FailedSource):
                self._results.put(passed)
            elif id(passed) in found and not passed.task.error:  # a field without an earlier tile fails anyway
                self._results.put(found[id(passed)])


def _always() -> bool:
    return True
