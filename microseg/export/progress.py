"""What an export reports while it runs."""

from __future__ import annotations

from typing import Protocol


class ExportProgress(Protocol):
    """Receives the phases of an export. Phases may lie within phases."""

    def begin(self, phase: str, steps: int = 0) -> None:
        """A phase begins; `steps` is its number of steps, 0 where that is unknown."""
        ...

    def step(self, phase: str) -> None:
        """One step of a phase is done."""
        ...

    def end(self, phase: str) -> None:
        """A phase ends."""
        ...

    def notice(self, text: str) -> None:
        """Something that the user should know and that does not end the export."""
        ...


class SilentProgress:
    """Reports nothing."""

    def begin(self, phase: str, steps: int = 0) -> None:
        """Ignore it."""

    def step(self, phase: str) -> None:
        """Ignore it."""

    def end(self, phase: str) -> None:
        """Ignore it."""

    def notice(self, text: str) -> None:
        """Ignore it."""
