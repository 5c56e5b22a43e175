"""SIGTERM (a cluster takes its node back) and Ctrl-C end training after the step that is under way, with its state saved."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class StopRequest:
    """Listens while its block runs; `made` once this process was asked to stop. A second Ctrl-C stops at once."""

    made = False

    def __enter__(self) -> Self:
        # Python lets the main thread alone listen.
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
