"""Small versions of fields by which copies are found: flipped, turned, scaled, brightened or compressed again."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

# Side of a thumbnail in cells, whatever the field's shape.
SIDE = 64
# Cells of the blur that is taken off, so that shading and layers do not make fields alike.
_BLUR = 4.0
# A scale bar or text counts no more than any other structure.
_CLIP = 2.5
_SCALE = 127 / 8

CHANGES = (
    "none",
    "turned by 90 degrees",
    "turned by 180 degrees",
    "turned by 270 degrees",
    "mirrored",
    "mirrored, turned by 90 degrees",
    "mirrored, turned by 180 degrees",
    "mirrored, turned by 270 degrees",
)
"""What `variants` do, in their order. Turns are anticlockwise."""


def thumbnail_of(image: NDArray[np.uint8]) -> NDArray[np.int8]:
    """The structure of a field on a grid of 64 x 64 cells, without shading, brightness and contrast.

    Args:
        image: uint8 (h, w).

    Returns:
        int8 (64, 64); zero where nothing differs from its surroundings.
    """
    small = cv2.resize(image, (4 * SIDE, 4 * SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    cells = cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    fine = cells - cv2.GaussianBlur(cells, (0, 0), _BLUR)
    # Layers are alike from field to field; what differs along them is not.
    fine = fine - fine.mean(0, keepdims=True)
    fine = fine - fine.mean(1, keepdims=True)
    fine = fine / max(float(fine.std()), 1e-3)
    return np.asarray(np.rint(np.clip(fine, -_CLIP, _CLIP) * _SCALE), np.int8)


def variants(thumbnail: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """A thumbnail as it is, turned, mirrored and both, in the order of `CHANGES`."""
    return [np.rot90(each, turns) for each in (thumbnail, thumbnail[:, ::-1]) for turns in range(4)]


def unit_rows(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thumbnails as rows of mean 0 and length 1: their products are correlations.

    Args:
        thumbnails: (N, 64, 64).
    """
    rows = thumbnails.reshape(len(thumbnails), -1)
    rows = rows - rows.mean(1, keepdims=True)
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-3), np.float32)


def correlation_of_parts(
    first: NDArray[np.int8],
    second: NDArray[np.int8],
    shapes: tuple[tuple[int, int], tuple[int, int]],
    shift: tuple[float, float],
) -> float:
    """Correlation of what two fields share, from their thumbnails.

    Args:
        first: thumbnail of the one field.
        second: thumbnail of the other.
        shapes: (height, width) of both, in px.
        shift: place (y, x) of the second one's upper left corner in the first one, in px.
    """
    (height, width), (other_height, other_width) = shapes
    # Centres of the first one's cells, in cells of the second one.
    rows = ((np.arange(SIDE) + 0.5) * height / SIDE - shift[0]) * SIDE / other_height - 0.5
    columns = ((np.arange(SIDE) + 0.5) * width / SIDE - shift[1]) * SIDE / other_width - 0.5
    inside = ((rows >= 0) & (rows <= SIDE - 1))[:, None] & ((columns >= 0) & (columns <= SIDE - 1))[None]
    if np.count_nonzero(inside) < SIDE:
        return 0.0
    across, down = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    moved = cv2.remap(second.astype(np.float32), across, down, cv2.INTER_CUBIC)[inside]
    # The same interpolation blurs both.
    here = first.astype(np.float32)[inside]
    spread = float(moved.std() * here.std())
    return float(np.mean((moved - moved.mean()) * (here - here.mean())) / spread) if spread else 0.0
