"""A field on its way through the pipeline, and what the pipeline's stages pass to each other."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.preparation.tiling import Tile
from microseg.core.system.files import file_identity
from microseg.deploy.pipeline.inputs import InputField


@dataclass
class Job:
    """A field on its way through the pipeline.

    identity: the file's `file_identity` before it was first read. error: why it fails; whoever finds that first sets it.
    reading: held while `prepared` is read, by reader or writer.
    """

    source: InputField
    identity: tuple[int, int]
    sha256: str
    prepared: PreparedField
    tiles: list[Tile]
    cost: int
    error: str | None = None
    reading: threading.Lock = field(default_factory=threading.Lock)

    def require_unchanged(self) -> None:
        """Raise FieldError where what was measured may not be what was hashed. A file that is gone was read to its end."""
        with suppress(FileNotFoundError):
            if file_identity(self.source.path) != self.identity:
                raise FieldError(f"{self.source.path}: changed while it was measured. Remedy: repeat the command.")


@dataclass(frozen=True)
class Pixels:
    """A tile to segment, uint8 (H, W)."""

    job: Job
    tile: Tile
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class Labels:
    """A segmented tile: labels uint8 (H, W), votes uint8 (F, H, W)."""

    job: Job
    tile: Tile
    labels: NDArray[np.uint8]
    votes: NDArray[np.uint8]


@dataclass(frozen=True)
class End:
    """Nothing more comes of this field."""

    job: Job


@dataclass(frozen=True)
class Flush:
    """The reader waits for fields to be finished: tiles that wait for a full batch must not."""
