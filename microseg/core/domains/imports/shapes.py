"""Outlines and pixel masks of an image, and their way onto its pixels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.imports.polygons import Ring, filled
from microseg.core.errors import InputError

MAX_SHAPES = 100_000


@dataclass(frozen=True)
class Shape:
    """One labelled region.

    Attributes:
        label: name of its class.
        parts: polygons whose union it is; the first ring of each is its outline, the others are holes.
        bitmap: gives bool (h, w) in place of polygons, or None. Kept as runs, the masks of a file take little memory.
        top, left: first row and column of the bitmap in the image.
    """

    label: str
    parts: tuple[tuple[Ring, ...], ...] = ()
    bitmap: Callable[[], NDArray[np.bool_]] | None = None
    top: int = 0
    left: int = 0


@dataclass(frozen=True)
class ImageLabels:
    """The shapes of one image in the order in which they are drawn.

    Attributes:
        shapes: the shapes.
        size: height and width of the image as the file states them, or None.
        without_area: number of points, lines and boxes, which outline no region.
    """

    shapes: tuple[Shape, ...]
    size: tuple[int, int] | None = None
    without_area: int = 0


def painted(
    labels: ImageLabels, shape: tuple[int, int], index_of: Mapping[str, int], ground: int, path: Path
) -> NDArray[np.uint8]:
    """The class of every pixel. Where shapes overlap, the later one wins.

    A pixel belongs to a polygon that contains its centre (x + 0.5, y + 0.5): a square from (10, 10) to (20, 20) covers 100
    pixels, and polygons that share an edge share no pixel.

    Args:
        labels: the shapes.
        shape: height and width of the image in pixels.
        index_of: value by label.
        ground: value where no shape is.
        path: the file, for messages.

    Returns:
        uint8 (h, w).

    Raises:
        InputError: a label has no value, or there are too many shapes.
    """
    unknown = sorted({item.label for item in labels.shapes} - index_of.keys())
    if unknown:
        raise InputError(
            f"{path}: holds labels that no phase names: {', '.join(map(repr, unknown))}. Known: {', '.join(index_of)}. "
            'Remedy: add them to `phases` in domain.yaml (`values`, or "other" for anything else).'
        )
    if len(labels.shapes) > MAX_SHAPES:
        raise InputError(
            f"{path}: {len(labels.shapes)} shapes in one image, and {MAX_SHAPES} are the most. Remedy: export masks."
        )
    pixels = np.full(shape, ground, np.uint8)
    for item in labels.shapes:
        if item.bitmap is not None:
            _place(pixels, item.bitmap(), item.top, item.left, index_of[item.label])
        for rings in item.parts:
            top, left, inside = filled(rings, shape, path)
            _place(pixels, inside, top, left, index_of[item.label])
    return pixels


def _place(pixels: NDArray[np.uint8], inside: NDArray[np.bool_], top: int, left: int, value: int) -> None:
    """Set the pixels of a bitmap that lie in the image."""
    rows, columns = max(0, -top), max(0, -left)
    target = pixels[max(0, top) :, max(0, left) :][: len(inside) - rows, : inside.shape[1] - columns]
    inside = inside[rows:, columns:][: target.shape[0], : target.shape[1]]
    target[inside] = value
