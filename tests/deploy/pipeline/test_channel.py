"""Channels lose nothing and hold no more than they may; budgets are kept; a stop ends every thread that waits."""

from __future__ import annotations

import threading
from collections import Counter
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from microseg.deploy.pipeline.channel import Budget, Channel, Stop, Stopped
from tests.deploy.pipeline.threads import DELAYS, pauses, property_test, run_together

SIZES = st.integers(1, 4)


class Failed(Exception):
    """What a stage of the pipeline raises."""


@property_test
@given(count=st.integers(0, 20), size=SIZES, put=DELAYS, take=st.lists(DELAYS, min_size=1, max_size=3))
def test_every_item_arrives_once_and_in_order(count: int, size: int, put: list[float], take: list[list[float]]) -> None:
    stop = Stop()
    channel: Channel[int] = Channel(size, stop)
    received: list[list[int]] = [[] for _ in take]
    most_waiting, sent = 0, 0

    def produce() -> None:
        nonlocal sent, most_waiting
        for item, _ in zip(range(count), pauses(put), strict=False):
            channel.put(item)
            sent += 1
            most_waiting = max(most_waiting, sent - sum(map(len, received)))
        channel.close()

    def consume(index: int) -> None:
        for item, _ in zip(channel, pauses(take[index]), strict=False):
            received[index].append(item)

    raised = run_together(produce, *(partial(consume, index) for index in range(len(take))))
    assert raised == [None] * (1 + len(take))
    assert sorted(item for items in received for item in items) == list(range(count))
    assert all(items == sorted(items) for items in received)
    assert most_waiting <= size + len(take), "each consumer holds one item besides"


@property_test
@given(count=st.integers(0, 12), due=st.integers(0, 12), size=SIZES, put=DELAYS, make_due=DELAYS, take=DELAYS)
def test_what_is_due_is_done_between_items(
    count: int, due: int, size: int, put: list[float], make_due: list[float], take: list[float]
) -> None:
    stop = Stop()
    channel: Channel[int] = Channel(size, stop)
    lock, outstanding, done = threading.Lock(), 0, 0
    all_due = threading.Event()
    received: list[int] = []

    def produce() -> None:
        for item, _ in zip(range(count), pauses(put), strict=False):
            channel.put(item)
        all_due.wait(20)
        channel.close()

    def falls_due() -> None:
        nonlocal outstanding
        for _ in zip(range(due), pauses(make_due), strict=False):
            with lock:
                outstanding += 1
            stop.wake()
        all_due.set()

    def do() -> None:
        nonlocal outstanding, done
        with lock:
            outstanding -= 1
        done += 1

    def consume() -> None:
        for item, _ in zip(channel.each(lambda: outstanding > 0, do), pauses(take), strict=False):
            received.append(item)

    assert run_together(produce, falls_due, consume) == [None] * 3
    assert received == list(range(count))
    assert (done, outstanding) == (due, 0)


@property_test
@given(
    size=SIZES, put=DELAYS, take=DELAYS,
    stopper=st.sampled_from(["producer", "consumer", "other"]), at=st.integers(0, 8), has_error=st.booleans(),
)  # fmt: skip
def test_a_stop_ends_every_thread_and_keeps_the_first_error(
    size: int, put: list[float], take: list[float], stopper: str, at: int, has_error: bool
) -> None:
    stop = Stop()
    channels: tuple[Channel[int], Channel[int]] = (Channel(size, stop), Channel(size, stop))
    first = Failed("first") if has_error else None
    received: list[int] = []

    def stop_at(step: int, thread: str) -> None:
        if thread == stopper and step == at:
            stop.set(first)
            stop.set(Failed("later"))

    def produce() -> None:
        for item, _ in enumerate(pauses(put)):
            stop_at(item, "producer")
            channels[0].put(item)

    def pass_on() -> None:
        for item in channels[0]:
            channels[1].put(item)

    def consume() -> None:
        for item, _ in zip(channels[1], pauses(take), strict=False):
            received.append(item)
            stop_at(len(received) - 1, "consumer")

    def other() -> None:
        for step, _ in zip(range(at + 1), pauses(put), strict=False):
            stop_at(step, "other")

    raised = run_together(produce, pass_on, consume, other)
    assert [type(error) for error in raised] == [Stopped, Stopped, Stopped, type(None)]
    assert received == list(range(len(received))), "what arrived before is complete"
    assert str(stop.error) == ("first" if has_error else "later")


@property_test
@given(
    limit=st.integers(1, 10),
    costs=st.lists(st.lists(st.integers(0, 15), max_size=8), min_size=1, max_size=4),
    hold=st.lists(DELAYS, min_size=4, max_size=4),
)
def test_a_budget_is_never_exceeded_but_by_one_thing_alone(
    limit: int, costs: list[list[int]], hold: list[list[float]]
) -> None:
    budget = Budget(limit, Stop())
    lock = threading.Lock()
    held: Counter[tuple[int, int]] = Counter()
    excesses: list[dict[tuple[int, int], int]] = []

    def use(thread: int) -> None:
        for (index, cost), _ in zip(enumerate(costs[thread]), pauses(hold[thread]), strict=False):
            budget.take(cost)
            with lock:
                held[thread, index] = cost
                if sum(held.values()) > limit and sum(map(bool, held.values())) > 1:
                    excesses.append(dict(held))
            next(pauses(hold[thread]))
            with lock:
                del held[thread, index]
            budget.give_back(cost)

    raised = run_together(*(partial(use, thread) for thread in range(len(costs))))
    assert raised == [None] * len(costs)
    assert excesses == []
    assert budget.has_room(10 * limit), "everything was given back"


@property_test
@given(limit=st.integers(1, 10), steps=st.lists(st.tuples(st.booleans(), st.integers(0, 15)), max_size=20))
def test_room_is_what_take_does_not_wait_for(limit: int, steps: list[tuple[bool, int]]) -> None:
    budget = Budget(limit, Stop())
    taken: list[int] = []
    for gives_back, cost in steps:
        if gives_back and taken:
            budget.give_back(taken.pop())
        has_room = sum(taken) == 0 or sum(taken) + cost <= limit
        assert budget.has_room(cost) == has_room
        if has_room:
            assert run_together(partial(budget.take, cost)) == [None]
            taken.append(cost)


@property_test
@given(takers=st.integers(1, 4), wait=DELAYS)
def test_a_stop_ends_the_wait_for_room(takers: int, wait: list[float]) -> None:
    stop = Stop()
    budget = Budget(1, stop)
    budget.take(1)

    def stops() -> None:
        next(pauses(wait))
        stop.set()

    raised = run_together(stops, *[lambda: budget.take(1)] * takers)
    assert [type(error) for error in raised] == [type(None), *[Stopped] * takers]
