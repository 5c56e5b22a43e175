"""Threads that must come to an end, with delays and failures drawn at random."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence

from hypothesis import Phase, settings
from hypothesis import strategies as st

_LIMIT_S = 30.0
# Not shrunk: what fails depends on the moment, and each deadlock takes the limit above.
property_test = settings(max_examples=60, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
# Milliseconds before each step of a thread; repeated when used up. Zero is drawn often: threads then race.
DELAYS = st.lists(st.sampled_from([0.0, 0.0, 0.0, 0.2, 1.0]), min_size=1, max_size=6)


def pauses(milliseconds: Sequence[float]) -> Iterator[None]:
    """Sleep for one of the delays at each step, over and over."""
    while True:
        for delay in milliseconds:
            if delay:
                time.sleep(delay / 1000)
            yield


def run_together(*bodies: Callable[[], None]) -> list[BaseException | None]:
    """Run each body in a thread of its own and wait for all.

    Args:
        bodies: What the threads do.

    Returns:
        What each body raised, None for a body that returned.

    Raises:
        AssertionError: A thread has not ended within 30 s.
    """
    raised: list[BaseException | None] = [None] * len(bodies)

    def guarded(index: int) -> None:
        try:
            bodies[index]()
        except BaseException as error:
            raised[index] = error

    threads = [threading.Thread(target=guarded, args=(index,), daemon=True) for index in range(len(bodies))]
    for thread in threads:
        thread.start()
    end = time.monotonic() + _LIMIT_S
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    waiting = [index for index, thread in enumerate(threads) if thread.is_alive()]
    assert not waiting, f"deadlock: threads {waiting} of {len(bodies)} have not ended within {_LIMIT_S:.0f} s"
    return raised
