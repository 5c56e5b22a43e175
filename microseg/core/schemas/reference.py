"""Reference tiles: micrographs inside an engine with the labels that it gave them at the export, for `verify`.

They have a metadata entry of their own, so that the network's hash does not change and the manifest is read quickly.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from microseg.core.errors import InputError
from microseg.core.evaluation.fractions import phase_fractions
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.versioned import VersionedModel

REFERENCE_VERSION = 1
MAX_BYTES = 300_000
_MAX_SIDE_PX = 1024


class ReferenceTile(FrozenModel):
    """A tile and its labels. Pictures are PNG in base64."""

    name: str = Field(description="Name of the tile.")
    pixels: str = Field(description="Grey values, (H, W).")
    labels: str = Field(description="Phase indices of the bag, (H, W).")
    votes: str = Field(description="Phase indices of the folds, one below the other, (F * H, W).")
    fractions: list[float] = Field(description="Area fraction of each phase by the bag, 0-1.")


class Reference(VersionedModel):
    """The metadata entry of an engine that holds its reference tiles."""

    schema_name: ClassVar[str] = "reference"
    schema_version: ClassVar[tuple[int, int]] = (REFERENCE_VERSION, 0)
    version_key: ClassVar[str] = "reference_version"

    reference_version: int = Field(REFERENCE_VERSION, description="Major version of this schema.")
    origin: Literal["synthetic", "real"] = Field(
        description="Where the tiles come from; `real` only where the owner of the micrographs asks for it."
    )
    model_sha256: str = Field(description="SHA-256 of the network that computed the labels.")
    tiles: list[ReferenceTile] = Field(min_length=1, description="The tiles.")


def reference_tile(
    name: str, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], votes: NDArray[np.uint8], phases: int
) -> ReferenceTile:
    """Pack a tile with its labels.

    Args:
        name: name of the tile.
        pixels: grey values, uint8 (H, W).
        labels: phase indices of the bag, uint8 (H, W).
        votes: phase indices of the folds, uint8 (F, H, W).
        phases: number of phases.
    """
    return ReferenceTile(
        name=name,
        pixels=_png(pixels),
        labels=_png(labels),
        votes=_png(votes.reshape(-1, votes.shape[-1])),
        fractions=phase_fractions(labels, phases).tolist(),
    )


def unpack(tile: ReferenceTile, folds: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """The pictures of a tile.

    Args:
        tile: the tile.
        folds: number of folds.

    Returns:
        Pixels (H, W), labels (H, W) and votes (F, H, W), all uint8.

    Raises:
        InputError: a picture is damaged, or their sizes differ.
    """
    pixels, labels, votes = _decoded(tile.pixels), _decoded(tile.labels), _decoded(tile.votes)
    height, width = pixels.shape
    if labels.shape != (height, width) or votes.shape != (folds * height, width):
        raise InputError(
            f"reference tile {tile.name!r}: its pictures differ in size. Remedy: copy or export the engine again."
        )
    return pixels, labels, votes.reshape(folds, height, width)


def most_telling(labels: Sequence[NDArray[np.uint8]], phases: int, count: int) -> list[int]:
    """Indices of the label images with the highest entropy of their phase fractions, the highest first.

    A tile of one phase does not show that a network is broken.

    Args:
        labels: label images, uint8 (H, W).
        phases: number of phases.
        count: how many to choose.
    """
    fractions = [phase_fractions(image, phases) for image in labels]
    entropy = [-float(np.sum(f[f > 0] * np.log(f[f > 0]))) for f in fractions]
    return sorted(range(len(labels)), key=lambda index: -entropy[index])[:count]


def _png(image: NDArray[np.uint8]) -> str:
    return base64.b64encode(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()).decode("ascii")


def _decoded(text: str) -> NDArray[np.uint8]:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _damaged() from error
    # Checked before a decoder allocates memory: IHDR states width and height, and no picture here is large.
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not (0 < width <= _MAX_SIDE_PX and 0 < height <= 64 * _MAX_SIDE_PX):
        raise _damaged()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2 or image.dtype != np.uint8:
        raise _damaged()
    return np.asarray(image, np.uint8)


def _damaged() -> InputError:
    return InputError("a reference tile of the engine is damaged. Remedy: copy or export the engine again.")
