"""Reference tiles: micrographs inside an engine with the labels that it gave them when it was exported.

`verify` runs them on the station: a metadata entry of their own, so that the network's hash does not change and
reading the manifest stays quick.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel

REFERENCE_VERSION = 1
MAX_BYTES = 300_000
_MAX_SIDE_PX = 1024


class ReferenceTile(FrozenModel):
    """A tile and its labels. Pictures are PNG in base64.

    pixels: (H, W). labels: (H, W), the bag's. votes: (F * H, W), the folds' one below the other. fractions: of the bag,
    0-1, by phase.
    """

    name: str
    pixels: str
    labels: str
    votes: str
    fractions: list[float]


class Reference(FrozenModel):
    """The metadata entry. origin: `real` only where the owner of the micrographs asked for it.

    model_sha256: of the network that the labels are of.
    """

    reference_version: int = REFERENCE_VERSION
    origin: Literal["synthetic", "real"]
    model_sha256: str
    tiles: list[ReferenceTile] = Field(min_length=1)


def reference_tile(
    name: str, pixels: NDArray[np.uint8], labels: NDArray[np.uint8], votes: NDArray[np.uint8], phases: int
) -> ReferenceTile:
    """Pack a tile (H, W) with its labels (H, W) and votes (F, H, W), all uint8."""
    counts = np.bincount(labels.ravel(), minlength=phases)
    return ReferenceTile(
        name=name,
        pixels=_png(pixels),
        labels=_png(labels),
        votes=_png(votes.reshape(-1, votes.shape[-1])),
        fractions=[count / labels.size for count in counts.tolist()],
    )


def unpack(tile: ReferenceTile, folds: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
    """Pixels (H, W), labels (H, W), votes (F, H, W) of a tile. Raises InputError where they do not fit together."""
    pixels, labels, votes = _decoded(tile.pixels), _decoded(tile.labels), _decoded(tile.votes)
    height, width = pixels.shape
    if labels.shape != (height, width) or votes.shape != (folds * height, width):
        raise InputError(
            f"reference tile {tile.name!r}: its pictures differ in size. Remedy: copy or export the engine again."
        )
    return pixels, labels, votes.reshape(folds, height, width)


def parse_reference(text: str) -> Reference:
    """The entry as it stands in an engine. Raises InputError: damaged, or written by a newer microseg."""
    try:
        return Reference.model_validate_json(text)
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"]) or "entry"
        raise InputError(
            f"the engine's reference tiles are damaged or newer than this microseg ({where}: {problem['msg']}). "
            "Remedy: copy or export the engine again, or pip install --upgrade microseg."
        ) from error


def most_telling(labels: Sequence[NDArray[np.uint8]], phases: int, count: int) -> list[int]:
    """Indices of the `count` label images with the most balanced phases, first the best.

    A tile that is all one phase would hide that a network is broken: the entropy of the fractions ranks them.
    """
    fractions = [np.bincount(image.ravel(), minlength=phases)[:phases] / image.size for image in labels]
    entropy = [-float(np.sum(f[f > 0] * np.log(f[f > 0]))) for f in fractions]
    return sorted(range(len(labels)), key=lambda index: -entropy[index])[:count]


def _png(image: NDArray[np.uint8]) -> str:
    return base64.b64encode(cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1].tobytes()).decode("ascii")


def _decoded(text: str) -> NDArray[np.uint8]:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise _damaged() from error
    # Before a decoder believes it: IHDR tells width and height, and no picture here is large.
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if not (0 < width <= _MAX_SIDE_PX and 0 < height <= 64 * _MAX_SIDE_PX):
        raise _damaged()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 2 or image.dtype != np.uint8:
        raise _damaged()
    return np.asarray(image, np.uint8)


def _damaged() -> InputError:
    return InputError("a reference tile of the engine is damaged. Remedy: copy or export the engine again.")
