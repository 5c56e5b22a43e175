"""Bounded queues between the threads of the pipeline. When one thread fails, all end."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class Stopped(Exception):
    """The pipeline has ended; raised in threads that wait."""


class Stop:
    """Ends all channels and budgets of a pipeline. It keeps the first error."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.error: BaseException | None = None
        self.is_set = False

    def set(self, error: BaseException | None = None) -> None:
        """End the pipeline, with the error that caused it if there is one."""
        with self.condition:
            self.is_set = True
            self.error = self.error or error
            self.condition.notify_all()

    def wake(self) -> None:
        """Wake the threads that wait; each checks its condition again."""
        with self.condition:
            self.condition.notify_all()


class Channel(Generic[T]):
    """A queue of at most `size` items, closed by its producer. Calls that wait raise Stopped when the pipeline ends."""

    def __init__(self, size: int, stop: Stop) -> None:
        self._items: deque[T] = deque()
        self._size = size
        self._stop = stop
        self._is_closed = False

    def put(self, item: T) -> None:
        """Append an item; waits for room. Raises Stopped."""
        with self._stop.condition:
            self._stop.condition.wait_for(lambda: self._stop.is_set or len(self._items) < self._size)
            if self._stop.is_set:
                raise Stopped
            self._items.append(item)
            self._stop.condition.notify_all()

    def close(self) -> None:
        """End the queue: no more items follow."""
        with self._stop.condition:
            self._is_closed = True
            self._stop.condition.notify_all()

    def __iter__(self) -> Iterator[T]:
        return self.each(lambda: False, lambda: None)

    def each(self, is_due: Callable[[], bool], do: Callable[[], None]) -> Iterator[T]:
        """The items in order, until the queue is closed.

        Args:
            is_due: asked when the queue is empty, also after each `Stop.wake`.
            do: called when the queue is empty and `is_due` is true.

        Raises:
            Stopped: the pipeline has ended.
        """
        while True:
            with self._stop.condition:
                self._stop.condition.wait_for(lambda: self._stop.is_set or self._items or self._is_closed or is_due())
                if self._stop.is_set:
                    raise Stopped
                item = self._items.popleft() if self._items else None
                if item is None and not is_due():
                    return
                self._stop.condition.notify_all()
            if item is None:
                do()
            else:
                yield item


class Budget:
    """A limit for the total cost of the fields under way. One field is always allowed, whatever it costs."""

    def __init__(self, limit: int, stop: Stop) -> None:
        self._limit = limit
        self._used = 0
        self._stop = stop

    def has_room(self, cost: int) -> bool:
        """Whether `take` returns without waiting."""
        with self._stop.condition:
            return self._fits(cost)

    def take(self, cost: int) -> None:
        """Reserve `cost`; waits for room. Raises Stopped."""
        with self._stop.condition:
            self._stop.condition.wait_for(lambda: self._stop.is_set or self._fits(cost))
            if self._stop.is_set:
                raise Stopped
            self._used += cost

    def give_back(self, cost: int) -> None:
        """Return a reserved cost."""
        with self._stop.condition:
            self._used -= cost
            self._stop.condition.notify_all()

    def _fits(self, cost: int) -> bool:
        return self._used == 0 or self._used + cost <= self._limit
