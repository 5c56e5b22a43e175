"""One engine for several threads, which may be closed while they use it."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import InputError
from microseg.core.system.files import Closing
from microseg.runtime import Engine, EngineOutput


class SharedEngine(Closing):
    """The engine protocol over an open engine: at most as many calls at a time as it has streams, none after its end."""

    def __init__(self, path: Path | str, engine: Engine) -> None:
        """Args:
        path: the engine's file or address, for messages.
        engine: the open engine; closed by `close`.
        """
        self.manifest = engine.manifest
        self.config = engine.config
        self.version = engine.version
        self.provider = engine.provider
        self._path = path
        self._engine = engine
        self._streams = threading.BoundedSemaphore(engine.config.streams)
        self._change = threading.Condition()
        self._running = 0
        self.is_closed = False

    @property
    def runs(self) -> int:
        """Number of calls so far."""
        return self._engine.runs

    @runs.setter
    def runs(self, value: int) -> None:
        self._engine.runs = value

    def run(self, tiles: NDArray[np.uint8], *, features: bool = False, probability: bool = False) -> EngineOutput:
        """Segment `tiles`, uint8 (N, 1, H, W).

        Raises:
            FieldError: the computation fails.
            InputError: the engine is closed.
        """
        with self._streams:
            with self._change:
                self.require_open()
                self._running += 1
            try:
                return self._engine.run(tiles, features=features, probability=probability)
            finally:
                with self._change:
                    self._running -= 1
                    self._change.notify_all()

    def require_open(self) -> None:
        """Raise InputError where the engine is closed."""
        if self.is_closed:
            raise InputError(
                f"{self._path}: the engine is closed. Remedy: load it again, or close it after its last use."
            )

    def close(self) -> None:
        """Wait for the calls under way, then give back memory and device. A second time does nothing."""
        with self._change:
            was_closed, self.is_closed = self.is_closed, True
            self._change.wait_for(lambda: self._running == 0)
        if not was_closed:
            self._engine.close()
