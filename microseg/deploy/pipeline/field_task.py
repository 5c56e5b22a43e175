"""A field on its way through the pipeline, and what the pipeline's threads pass to each other."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.errors import FieldError
from microseg.core.images.folders import readable
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.preparation.tiling import Tile, plan_tiles
from microseg.core.schemas.manifest import Manifest
from microseg.core.system.files import file_identity

# A decoded 16-bit field, its 8-bit rows, labels, overlay: bytes that a native pixel costs between reading and writing.
_BYTES_PER_NATIVE_PIXEL = 8


@dataclass
class FieldTask:
    """A field that is read, computed and written.

    Attributes:
        name: what messages and results call the field.
        prepared: the open field; closed by the pipeline after the last tile.
        tiles: the plan of its tiles, in order.
        cost: bytes that the field takes between reading and writing.
        identity: `file_identity` of the file before its first reading; None for an array.
        sha256: SHA-256 of the file's content where it is known, else "".
        error: why the field fails; the thread that finds the first reason sets it.
        reading: held while `prepared` is read, by the reading or the writing thread.
    """

    name: str
    prepared: PreparedField
    tiles: list[Tile]
    cost: int
    identity: tuple[int, int] | None = None
    sha256: str = ""
    error: str | None = None
    reading: threading.Lock = field(default_factory=threading.Lock)

    def require_unchanged(self) -> None:
        """Raise FieldError where the file changed since its first reading. A file that is gone was read to its end."""
        if self.identity is None:
            return
        with suppress(FileNotFoundError):
            if file_identity(self.prepared.path) != self.identity:
                raise FieldError(f"{self.prepared.path}: changed while it was measured. Remedy: repeat the command.")


def field_task(
    name: str,
    prepared: PreparedField,
    manifest: Manifest,
    max_tile_pixels: int,
    *,
    identity: tuple[int, int] | None = None,
    sha256: str = "",
) -> FieldTask:
    """The task of a field, with its plan of tiles. `prepared` is closed where there is none.

    Args:
        name: the field's name.
        prepared: the open field.
        manifest: the engine's manifest: stride, halo and largest side of a tile.
        max_tile_pixels: the largest tile in pixels.
        identity: as in `FieldTask`.
        sha256: as in `FieldTask`.

    Raises:
        FieldError: no tile with its halo fits into `max_tile_pixels`.
    """
    height, width = prepared.shape
    try:
        tiles = plan_tiles(height, width, manifest.stride, manifest.halo_px, max_tile_pixels, manifest.max_side_px)
    except BaseException:
        prepared.close()
        raise
    native_px = prepared.full_shape[0] * prepared.full_shape[1]
    return FieldTask(name, prepared, tiles, native_px * _BYTES_PER_NATIVE_PIXEL, identity, sha256)


@dataclass(frozen=True)
class TilePixels:
    """A tile to compute, uint8 (H, W)."""

    task: FieldTask
    tile: Tile
    pixels: NDArray[np.uint8]


@dataclass(frozen=True)
class TileLabels:
    """A computed tile: labels uint8 (H, W), votes uint8 (F, H, W); for an alarm the pixels and the features."""

    task: FieldTask
    tile: Tile
    labels: NDArray[np.uint8]
    votes: NDArray[np.uint8]
    pixels: NDArray[np.uint8] | None = None
    features: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class EndOfField:
    """No more tiles of this field follow."""

    task: FieldTask


@dataclass(frozen=True)
class FailedSource:
    """A field that cannot be opened, and why; it keeps its place in the order."""

    name: str
    reason: str


@dataclass(frozen=True)
class Flush:
    """The reader waits for fields to be finished: tiles that wait for a full batch must go now."""


def reason(path: Path, error: Exception) -> str:
    """What a report says about a field that fails with `error`."""
    if isinstance(error, OSError):
        return readable(f"{path}: cannot be read ({error.strerror or error}). Remedy: check the file and its rights.")
    return readable(str(error))
