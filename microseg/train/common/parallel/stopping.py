"""SIGTERM (a cluster takes its node back) and Ctrl-C end training after the current step, with the state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class StopRequest:
    """Listens for SIGTERM and Ctrl-C while its block runs, and restores the handlers after it.

    `made` is true once this process was asked to stop. A second Ctrl-C stops at once. In other threads than the main one
    it hears nothing.
    """

    made = False

    def __enter__(self) -> Self:
        # Python lets only the main thread set handlers.
        is_main = threading.current_thread() is threading.main_thread()
        signals = (signal.SIGTERM, signal.SIGINT) if is_main else ()
        self._before: dict[signal.Signals, Any] = {number: signal.signal(number, self._on) for number in signals}
        return self

    def __exit__(self, *error: object) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)

    def _on(self, number: int, frame: FrameType | None) -> None:
        if self.made and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.made = True
