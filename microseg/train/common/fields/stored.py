"""Pixels of training sets in bounded memory: the first fields of a set stay in memory, the others lie in a scratch file."""

from __future__ import annotations

import os
import tempfile
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.system.files import writing

# Pixels of a set that stay in memory, bytes. 32 MB are 60 fields of a quarter of a megapixel with their labels; a training
# process takes thirty times as much. The system caches files that are read often, and takes that memory back where it is short.
BUDGET_BYTES = 32_000_000


class _ScratchFile:
    """A file of this process alone. It is deleted after the last plane in it, and when the process ends."""

    def __init__(self) -> None:
        number, name = tempfile.mkstemp(prefix="microseg-fields-")
        os.close(number)
        self.path = Path(name)
        self.size = 0
        weakref.finalize(self, self.path.unlink, missing_ok=True)

    def append(self, plane: NDArray[np.uint8]) -> int:
        """Write a plane. Returns where it begins, in bytes. Raises OSError."""
        start = self.size
        with writing(self.path), self.path.open("ab") as file:
            file.write(plane.tobytes())
        self.size += plane.size
        return start


@dataclass(frozen=True)
class StoredPlane:
    """One plane of a field in a scratch file. Sent to another process, it names the file of the process that wrote it.

    path: The file.
    start: Where the plane begins, bytes.
    shape: Height and width.
    scratch: Keeps the file while the plane is in use.
    """

    path: Path
    start: int
    shape: tuple[int, int]
    scratch: _ScratchFile | None = field(default=None, compare=False, repr=False)

    def read(self) -> NDArray[np.uint8]:
        """The plane, uint8 (h, w). It is read and not mapped: mapped pages count as memory of the process. Raises OSError."""
        height, width = self.shape
        return np.fromfile(self.path, np.uint8, height * width, offset=self.start).reshape(self.shape)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"scratch": None}


Plane = NDArray[np.uint8] | StoredPlane


def pixels_of(plane: Plane) -> NDArray[np.uint8]:
    """The plane, uint8 (h, w), wherever it is."""
    return plane.read() if isinstance(plane, StoredPlane) else plane


class PlaneStore:
    """Keeps planes of a set: in memory until the budget is used up, and in a scratch file from there on."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        """Begin with an empty store.

        Args:
            budget_bytes: Bytes of planes to keep in memory.
        """
        self.in_memory_bytes = 0
        self._budget_bytes = budget_bytes
        self._scratch: _ScratchFile | None = None

    def keep(self, plane: NDArray[np.uint8]) -> Plane:
        """Keep a plane.

        Args:
            plane: uint8 (h, w).

        Returns:
            The plane itself, or its place in the scratch file.

        Raises:
            OSError: The folder of temporary files is full, or cannot be written.
        """
        if self.in_memory_bytes + plane.nbytes <= self._budget_bytes:
            self.in_memory_bytes += plane.nbytes
            return plane
        self._scratch = self._scratch or _ScratchFile()
        height, width = plane.shape
        return StoredPlane(self._scratch.path, self._scratch.append(plane), (height, width), self._scratch)
